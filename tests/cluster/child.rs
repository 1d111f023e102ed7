//! A second process with a store: this test binary again, which obeys lines on its standard input.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use volboot::config::EtcdConfig;
use volboot::store::{Batch, Claim, Condition, EtcdStore, Store, WriteError};

use crate::{SESSION, open, read};

const PREFIX: &str = "VOLBOOT_CLUSTER_PREFIX";
const ENDPOINTS: &str = "VOLBOOT_CLUSTER_ENDPOINTS";
const DIRECTORY: &str = "VOLBOOT_CLUSTER_DIRECTORY";

/// The process.
pub(crate) struct Instance {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Instance {
    /// Starts a process on the store of `config`.
    pub(crate) async fn start(config: &EtcdConfig, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["child::process", "--exact", "--ignored", "--nocapture"])
            .env(PREFIX, &config.prefix)
            .env(ENDPOINTS, config.endpoints.join(","))
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut instance = Self { child, input, output };
        instance.answer().await;
        instance
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id().expect("runs")).expect("a process id")
    }

    /// Sends a command without waiting for its answer.
    pub(crate) async fn send(&mut self, command: &str) {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the process reads");
    }

    /// Reads an answer.
    pub(crate) async fn answer(&mut self) -> String {
        loop {
            let line = self.output.next_line().await.expect("text").expect("the process runs");
            // The test harness prints too.
            if let Some((_, answer)) = line.split_once("answer: ") {
                return answer.to_owned();
            }
        }
    }

    pub(crate) async fn ask(&mut self, command: &str) -> String {
        self.send(command).await;
        self.answer().await
    }
}

/// Not a test: the second process.
#[test]
#[ignore = "started by other tests"]
fn process() {
    let variable = |name| std::env::var(name).expect("set by the parent");
    let config = EtcdConfig {
        endpoints: variable(ENDPOINTS).split(',').map(str::to_owned).collect(),
        prefix: variable(PREFIX),
        username: None,
        password_file: None,
        cacert: None,
        certificate: None,
        key: None,
        allow_insecure: true,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let store = open(config, variable(DIRECTORY).as_ref()).await;
        println!("answer: open {SESSION:?}");
        obey(&store).await;
    });
}

/// The next line; `None` once the parent has gone.
async fn read_line() -> Option<String> {
    let mut line = String::new();
    let read = move || std::io::stdin().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line));
    let line = tokio::task::spawn_blocking(read).await.expect("runs").expect("text");
    line.map(|line| line.trim_end().to_owned())
}

async fn obey(store: &EtcdStore) {
    let mut claim: Option<Claim> = None;
    while let Some(line) = read_line().await {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["claim", work] => {
                claim = store.cluster().claim(work, b"").await.expect("responds");
                claim.as_ref().map_or("held".to_owned(), |_| "claimed".to_owned())
            }
            ["write", key, value] => {
                let id = claim.as_ref().expect("claimed before").id();
                match store.write(Batch::default().require_held(id).put(*key, *value)).await {
                    Ok(_) => "written".to_owned(),
                    Err(WriteError::Conflict(Condition::Held(_))) => "fenced".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            ["is-lost"] => claim.as_ref().expect("claimed before").is_lost().to_string(),
            ["count", times] => {
                for _ in 0..times.parse::<u32>().expect("a number") {
                    increment(store).await;
                }
                "counted".to_owned()
            }
            ["read", key] => format!("{:?}", read(store, key).await),
            _ => panic!("unknown command {line}"),
        };
        println!("answer: {answer}");
    }
}

/// Adds 1 to the record `count`.
pub(crate) async fn increment(store: &dyn Store) {
    loop {
        let record = store.get(&["count".to_owned()]).await.expect("reads").pop().flatten().expect("exists");
        let count: u32 = String::from_utf8(record.value).expect("text").parse().expect("a number");
        let batch = Batch::default().require_unchanged("count", record.revision);
        match store.write(batch.put("count", (count + 1).to_string())).await {
            Ok(_) => return,
            Err(WriteError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
