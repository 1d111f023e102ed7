//! Tests of the configuration: values, defaults, and the diagnostics of invalid files.

use std::time::Duration;

use super::*;

fn errors_of(text: &str) -> Vec<String> {
    Config::parse(text).expect_err("is invalid").iter().map(ToString::to_string).collect()
}

#[test]
fn empty_file_has_the_defaults() {
    let config = Config::parse("").expect("is valid");
    assert_eq!(config, Config::default());
    assert_eq!(Config::parse("conductor_group = ''"), Ok(Config::default()));
    assert_eq!(config.tftp.listen, ["0.0.0.0:69".parse().expect("an address")]);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:6385");
    assert_eq!(config.http.allow.len(), 8);
    assert_eq!(config.log.to_string(), "info");
}

#[cfg(feature = "etcd")]
#[test]
fn etcd_needs_members_and_protected_connections() {
    let parse = |keys: &str| Config::parse(&format!("[store]\nkind = 'etcd'\n[store.etcd]\n{keys}"));
    for keys in [
        "endpoints = ['https://10.0.0.11:2379', 'http://127.0.0.1:2379', 'http://[::1]:2379']",
        "endpoints = ['http://10.0.0.11:2379']\nallow_insecure = true",
    ] {
        parse(keys).expect("is valid");
    }
    for (keys, expected) in [
        ("", "store.etcd.endpoints: names no member"),
        ("endpoints = ['http://10.0.0.11:2379']", "sends secrets in clear text"),
        ("endpoints = ['10.0.0.11:2379']", "is not a URL"),
        ("endpoints = ['https://10.0.0.11']", "is not a URL"),
        ("endpoints = ['https://a:1']\nprefix = '/'", "an empty prefix"),
        ("endpoints = ['https://a:1']\nusername = 'volboot'", "store.etcd.username: needs password_file"),
        ("endpoints = ['https://a:1']\nkey = '/k.pem'", "store.etcd.certificate: needs key"),
    ] {
        let found = parse(keys).expect_err("is invalid");
        assert!(found.iter().any(|error| error.to_string().contains(expected)), "{keys}: {found:?}");
    }
    let prefix = Config::parse("[store.etcd]\nprefix = '/site'").expect("is valid").store.etcd.prefix;
    assert_eq!(prefix, "/site/");
}

#[test]
fn drivers_and_interfaces_are_restricted_as_in_ironic() {
    let text = "enabled_hardware_types = ['redfish']\nenabled_management_interfaces = ['noop']";
    let config = Config::parse(text).expect("is valid");
    let drivers: Vec<_> = config.hardware.drivers().collect();
    assert_eq!((drivers.len(), drivers[0].name), (1, "redfish"));
    assert_eq!(config.hardware.interfaces(drivers[0], "management"), ["noop"]);
    assert_eq!(config.hardware.interfaces(drivers[0], "power"), ["redfish"]);
    assert_eq!(
        errors_of("enabled_hardware_types = ['ipmi']"),
        [
            "enabled_hardware_types: \"ipmi\" is not one of fake-hardware, manual-management, redfish",
            "enabled_hardware_types: expected at least one driver",
        ]
    );
    assert_eq!(
        errors_of("enabled_power_interfaces = ['fake']"),
        ["enabled_power_interfaces: driver redfish needs one of redfish; enabled_hardware_types has it"]
    );
    assert_eq!(errors_of("[power]\nat_once = 0"), ["power.at_once: expected an integer from 1 to 256"]);
}

#[test]
fn values_are_read() {
    let config = Config::parse(
        r#"
        enabled_storage_interfaces = ["external"]
        default_storage_interface = "external"
        conductor_group = "Rack-1"
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
        when_store_is_away = "last-known"
        preflight = "off"
        last_known_max_age = "90 min"
        fallback_after = 2
        fallback_min_uptime = "1min"
        [cinder]
        cloud = "site"
        "#,
    )
    .expect("is valid");
    assert_eq!(config.default_storage_interface, StorageInterface::External);
    assert_eq!(config.conductor_group.as_str(), "rack-1");
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
            allow: None,
        }
    );
    assert_eq!(config.http.url.as_deref(), Some("http://192.0.2.1:8080"));
    assert_eq!(
        config.boot,
        BootConfig {
            unknown: FailureAction::Shell,
            tries: 3,
            when_cinder_is_away: OutagePolicy::Wait,
            when_store_is_away: StoreOutagePolicy::LastKnown,
            preflight: PreflightMode::Off,
            last_known_max_age: Duration::from_secs(90 * 60),
            fallback_after: 2,
            fallback_min_uptime: Duration::from_secs(60),
            window: None,
            window_reboot: false,
            ..Config::default().boot
        }
    );
}

#[test]
fn all_errors_are_reported_with_their_keys() {
    let errors = errors_of(
        r#"
        default_storage_interface = "ceph"
        conductor_group = "rack 1"
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
        "default_storage_interface: \"ceph\" is not \"noop\", \"external\" or \"cinder\"",
        "conductor_group: a conductor group has at most 255 letters, digits and _ - .",
        "log: \"inof\" is not a level: expected off, error, warn, info, debug or trace; per target: hyper=warn,info",
        "tftp.listen: expected an address and a port such as 0.0.0.0:69",
        "tftp.ports: \"69\" is not \"ephemeral\", \"single\" or a range such as \"40000-40100\"",
        "tftp.window: expected an integer from 1 to 64",
        "http.url: expected a URL such as http://192.0.2.1:8080",
        "http.allow: expected a network such as 10.0.0.0/8",
        "http.allow: expected a list of strings",
        "http.lisen: unknown key; did you mean http.listen?",
        "api.auth: \"none \" is not \"none\", \"http_basic\" or \"keystone\"",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "api.hosts: expected a name such as boot.example",
        "boot.unknown: expected a string: \"exit\", \"retry\" or \"shell\"",
        "boot.tries: expected an integer from 1 to 1000",
        "boot.last_known_max_age: expected a duration such as \"24h\", \"30min\" or \"90s\"",
        "cinder.auth_url: expected a non-empty string",
        "cinder.verify: expected true or false",
        "cinder.resolutions: expected an integer from 1 to 1024",
        "cinder.clod: unknown key; did you mean cinder.cloud?",
        "colour: unknown key",
        "stores: unknown key; did you mean store?",
        "api.certificate: certificate and key must be set together",
        "api.auth: \"none\" requires a loopback address in api.listen; \
         allow_unauthenticated = true permits other addresses",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn toml_syntax_error_has_its_line() {
    let errors = errors_of("[http\nlisten = 1");
    assert!(errors[0].contains("line 1"), "{errors:?}");
}

#[test]
fn base_url_rejects_characters_with_a_meaning_in_scripts() {
    for text in
        ["http://a b", "http://a/${x}", "http://a/?x", "http://a/#x", "//a", "a", "http://a/\n", "http://u@a"]
    {
        assert!(parse_base_url(text).is_err(), "{text}");
    }
}
