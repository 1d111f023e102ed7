//! What a file says is read, what it does not say has its default, and what it cannot mean is told with its key.

use super::*;

fn faults_of(text: &str) -> Vec<String> {
    Config::parse(text).expect_err("a fault").iter().map(ToString::to_string).collect()
}

#[test]
fn with_no_file_at_all_the_defaults_hold() {
    let config = Config::parse("").expect("is complete");
    assert_eq!(config, Config::default());
    assert_eq!(config.tftp.listen, ["0.0.0.0:69".parse().expect("an address")]);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:6385");
    assert_eq!(config.http.allow.len(), 8);
    assert_eq!(config.log.to_string(), "info");
}

#[test]
fn what_is_said_is_read() {
    let config = Config::parse(
        r#"
        enabled_storage_interfaces = ["external"]
        default_storage_interface = "external"
        log = "hyper::proto=trace, info"
        [store]
        path = "/srv/volboot.redb"
        [tftp]
        listen = "[::]:1069"
        images = []
        ports = "40000-40100"
        block_size = 1024
        window = 4
        transfers = 100
        transfers_per_client = 2
        [http]
        url = "http://192.0.2.1:8080/"
        allow = ["192.0.2.0/24"]
        [api]
        listen = "192.0.2.1:6385"
        allow_unauthenticated = true
        [boot]
        unknown = "shell"
        tries = 3
        when_cinder_is_away = "wait"
        last_known_max_age = "90 min"
        [cinder]
        cloud = "site"
        "#,
    )
    .expect("is right");
    assert_eq!(config.default_storage_interface, StorageInterface::External);
    assert_eq!(config.log.to_string(), "hyper::proto=trace,info");
    assert_eq!(config.store.path, PathBuf::from("/srv/volboot.redb"));
    assert_eq!(
        config.tftp,
        TftpConfig {
            listen: vec!["[::]:1069".parse().expect("an address")],
            images: vec![],
            ports: TransferPorts::Range(40_000..=40_100),
            block_size: 1024,
            window: 4,
            transfers: 100,
            transfers_per_client: 2,
        }
    );
    assert_eq!(config.http.url.as_deref(), Some("http://192.0.2.1:8080"));
    assert_eq!(
        config.boot,
        BootConfig {
            unknown: Afterwards::Shell,
            tries: 3,
            when_cinder_is_away: WhenAway::Wait,
            last_known_max_age: Duration::from_secs(90 * 60),
            ..Config::default().boot
        }
    );
}

#[test]
fn all_faults_are_told_at_once_each_with_its_key() {
    let found = faults_of(
        r#"
        default_storage_interface = "ceph"
        log = "inof"
        colour = "blue"
        [http]
        lisen = "0.0.0.0:80"
        url = "ftp://192.0.2.1"
        allow = ["10.0.0.0/40", 7]
        [api]
        listen = "192.0.2.1:6385"
        auth = "none "
        hosts = ["boot.example:6385", "http://boot.example", "boot..example", ""]
        key = "/etc/volboot/key.pem"
        [boot]
        tries = 0
        unknown = true
        last_known_max_age = "1 fortnight"
        [cinder]
        clod = "x"
        auth_url = ""
        verify = "no"
        resolutions = 5000
        [tftp]
        listen = "192.0.2.1"
        ports = "69"
        window = 65
        [stores]
        path = ""
        "#,
    );
    let expected = [
        "default_storage_interface: \"ceph\" is none of noop, external, cinder",
        "log: \"inof\" is no level: expected off, error, warn, info, debug or trace, or, for parts, hyper=warn,info",
        "tftp.listen: expected an address and a port such as 0.0.0.0:69",
        "tftp.ports: \"69\" is not \"ephemeral\", \"single\" or a range such as \"40000-40100\"",
        "tftp.window: expected a whole number from 1 to 64",
        "http.url: expected a URL such as http://192.0.2.1:8080",
        "http.allow: expected a network such as 10.0.0.0/8",
        "http.allow: expected a list of texts",
        "http.lisen: there is no such key; did you mean http.listen?",
        "api.auth: \"none \" is not \"none\", \"http_basic\" or \"keystone\"",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "boot.unknown: expected a text: \"exit\", \"retry\" or \"shell\"",
        "boot.tries: expected a whole number from 1 to 1000",
        "boot.last_known_max_age: expected a time such as \"24h\", \"30min\" or \"90s\"",
        "cinder.auth_url: expected a text that is not empty",
        "cinder.verify: expected true or false",
        "cinder.resolutions: expected a whole number from 1 to 1024",
        "cinder.clod: there is no such key; did you mean cinder.cloud?",
        "colour: there is no such key",
        "stores: there is no such key; did you mean store?",
        "api.certificate: a certificate and its key are both needed, or neither",
        "api.auth: without authentication the API may listen on loopback only; \
         allow_unauthenticated = true if everybody who reaches it may do everything",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let found = faults_of("[http\nlisten = 1");
    assert!(found[0].contains("line 1"), "{found:?}");
}

#[test]
fn a_base_url_can_hold_nothing_that_a_script_would_misread() {
    for text in
        ["http://a b", "http://a/${x}", "http://a/?x", "http://a/#x", "//a", "a", "http://a/\n", "http://u@a"]
    {
        assert!(base_url(text).is_err(), "{text}");
    }
}
