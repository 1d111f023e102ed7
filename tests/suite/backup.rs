//! `volboot store export` and `import` with a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use reqwest::Client;
use serde_json::{Value, json};

use crate::daemon::{Daemon, LIMIT, site, volboot};

fn run(arguments: &[&str]) -> Output {
    volboot(arguments).output().expect("the command runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

async fn nodes(client: &Client, daemon: &Daemon) -> Value {
    let url = format!("http://{}/v1/nodes/detail", daemon.api);
    let request = client.get(url).header("X-OpenStack-Ironic-API-Version", "1.33");
    let mut nodes: Value = request.send().await.expect("answers").json().await.expect("JSON");
    // Links have the address of the server.
    for node in nodes["nodes"].as_array_mut().expect("a list") {
        node.as_object_mut().expect("an object").retain(|_, value| !value.to_string().contains("href"));
    }
    nodes
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

#[tokio::test]
async fn an_export_of_a_running_server_restores_another_one() {
    volboot::tls::install_provider();
    let client = Client::builder().timeout(LIMIT).build().expect("a client");
    let (source, target) = (site(""), site(""));
    let mut daemon = Daemon::start(source.path());
    for n in 0..3 {
        let node = json!({"driver": "fake-hardware", "name": format!("node-{n}"), "extra": {"rack": "ü"}});
        let request = client.post(format!("http://{}/v1/nodes", daemon.api)).json(&node);
        let response =
            request.header("X-OpenStack-Ironic-API-Version", "1.33").send().await.expect("answers");
        assert!(response.status().is_success());
    }
    let before = nodes(&client, &daemon).await;
    let (socket, file) = (source.path().join("store.socket"), source.path().join("backup"));
    assert_eq!(mode(&socket), 0o600);

    let export = |file: &Path| run(&["store", "export", text(file), "--socket", text(&socket)]);
    // The second one replaces the first.
    for _ in 0..2 {
        let output = export(&file);
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(mode(&file), 0o600);
    }
    assert!(!source.path().join("backup.new").exists());
    let piped = run(&["store", "export", "-", "--socket", text(&socket)]);
    assert!(piped.stdout == fs::read(&file).expect("reads"), "the pipe has another export");
    let output = export(Path::new("/dev/stdout"));
    assert!(errors(&output).contains("is not a regular file"), "{}", errors(&output));

    let import = |site: &Path| {
        let config = site.join("volboot.toml");
        run(&["store", "import", text(&file), "--config", text(&config)])
    };
    let output = import(source.path());
    assert!(errors(&output).contains("is in use by another process"), "{}", errors(&output));
    daemon.stop();
    assert!(!socket.exists());
    let output = import(source.path());
    assert!(errors(&output).contains("needs an empty store"), "{}", errors(&output));
    let output = export(&file);
    assert!(errors(&output).contains("is volboot running"), "{}", errors(&output));
    assert!(file.exists(), "the earlier export stays");

    let output = import(target.path());
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(mode(&target.path().join("store.redb")), 0o600);
    let mut daemon = Daemon::start(target.path());
    assert_eq!(nodes(&client, &daemon).await, before);
    daemon.stop();
}
