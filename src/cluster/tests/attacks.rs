//! Requests and responses of strangers: nothing is read, and nothing is joined.

use base64::Engine as _;

use super::proof::{CHALLENGE, INSTANCE, NONCE, PROOF, ProvedRequest, encode_hex};
use super::proxy::Proxy;
use super::secret::ClusterSecret;
use super::server::EVENTS;
use super::*;
use crate::store::Store as _;

/// The headers of a request for events with this challenge, proved by `secret`.
fn headers(secret: &ClusterSecret, to: &str, challenge: &str) -> [(&'static str, String); 4] {
    let (from, to) = ("boot-9".parse().expect("a name"), to.parse().expect("a name"));
    let request = ProvedRequest {
        method: "GET",
        target: EVENTS,
        from: &from,
        to: &to,
        challenge,
        nonce: "n",
        body: b"",
    };
    let proof = request.sign(secret);
    [(INSTANCE, "boot-9".into()), (CHALLENGE, challenge.into()), (NONCE, "n".into()), (PROOF, proof)]
}

/// Sends a request; returns the status and the challenge of the response.
async fn send(address: SocketAddr, headers: &[(&str, String)], query: &str) -> (u16, String, String) {
    let mut request = build_client(None).expect("a client").get(format!("http://{address}{EVENTS}{query}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.expect("responds");
    let challenge = response.headers().get(CHALLENGE).map(|value| value.to_str().expect("text").to_owned());
    (response.status().as_u16(), challenge.unwrap_or_default(), response.text().await.expect("a text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proved_request_is_answered_and_only_once() {
    let store = MemoryStore::default();
    let a = TestInstance::start(&store, "boot-1", None, None);
    wait_for("the secret is read", || a.membership.secret().is_some()).await;
    a.record(Timestamp::now(), KNOWN, EventKind::SessionStarted);
    let secret = a.membership.secret().expect("a secret");
    let (status, challenge, body) = send(a.address, &[], "").await;
    assert_eq!((status, body.contains("session_started")), (401, false));
    let proved = headers(&secret, "boot-1", &challenge);
    // The proof is of another path, or the server is another instance, or the secret is another.
    assert_eq!(send(a.address, &proved, "?wait=1").await.0, 401);
    assert_eq!(send(a.address, &headers(&secret, "boot-2", &challenge), "").await.0, 401);
    assert_eq!(
        send(a.address, &headers(&ClusterSecret::new(b"guess"), "boot-1", &challenge), "").await.0,
        401
    );
    assert_eq!(send(a.address, &headers(&secret, "boot-1", &encode_hex(&[7; 56])), "").await.0, 401);
    wait_for("the event is recorded", || a.timeline.outbox_page(None).events.len() == 1).await;
    let (status, next, body) = send(a.address, &proved, "").await;
    assert_eq!((status, body.contains("session_started")), (200, true));
    assert_eq!(send(a.address, &proved, "").await.0, 401, "a recorded request is sent again");
    assert_eq!(send(a.address, &headers(&secret, "boot-1", &next), "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_cut_response_is_not_joined() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, &str); 3] = [
        (
            |bytes| {
                // A forged event in place of a true one, of the same length.
                let text = String::from_utf8_lossy(bytes).replace("session_started", "session_stArted");
                *bytes = text.into_bytes();
            },
            "not proved",
        ),
        (
            |bytes| {
                // A recorded proof of nothing.
                let text = String::from_utf8_lossy(bytes).replace("volboot-proof: ", "volboot-proof: 00");
                *bytes = text.into_bytes();
            },
            "not proved",
        ),
        (|bytes| bytes.truncate(bytes.len().saturating_sub(10)), "cannot reach it"),
    ];
    for (change, problem) in changes {
        let (store, proxy) = (MemoryStore::default(), Proxy::bind());
        let a = TestInstance::start(&store, "boot-1", None, Some(proxy.url()));
        a.record(Timestamp::now(), KNOWN, EventKind::SessionStarted);
        proxy.pass_to(a.address, change);
        let b = TestInstance::start(&store, "boot-2", None, None);
        wait_for("the fault is noticed", || {
            let missing = b.membership.missing_events();
            missing.iter().any(|missing| missing.reason.contains(problem))
        })
        .await;
        assert!(b.timeline.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_in_no_packet() {
    let (store, proxy) = (MemoryStore::default(), Proxy::bind());
    let a = TestInstance::start(&store, "boot-1", None, Some(proxy.url()));
    proxy.pass_to(a.address, |_| {});
    let b = TestInstance::start(&store, "boot-2", None, None);
    wait_for_all(&[&a, &b]).await;
    a.record(Timestamp::now(), KNOWN, report(BootStep::Hooked));
    wait_for("the event is joined", || b.story().len() == 1).await;
    let record = store.get(&["cluster/secret".to_owned()]).await.expect("reads").remove(0).expect("exists");
    let record: serde_json::Value = serde_json::from_slice(&record.value).expect("JSON");
    let encoded = record["secret"].as_str().expect("a text").to_owned();
    let secret = base64::engine::general_purpose::STANDARD.decode(&encoded).expect("is encoded");
    let bytes = proxy.bytes.lock().clone();
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(contains(b"hooked") && contains(PROOF.as_bytes()));
    for part in [secret.as_slice(), encoded.as_bytes(), encode_hex(&secret).as_bytes()] {
        assert!(!contains(part));
    }
}
