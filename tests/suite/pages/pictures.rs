//! The pictures of boots: the last boot of a machine, the boots of a week, and a storm as it runs.

use super::*;

impl Site {
    /// Records a boot session of a node that started this many seconds ago, as far as the given event.
    async fn boot(&self, card: Mac, seconds_ago: i64, events: usize) {
        let start = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
        let transfer = TftpTransfer {
            file: "undionly.kpxe".into(),
            outcome: TransferOutcome::Complete,
            size: 70_000,
            block_size: 1432,
            window_size: 1,
            blocks: 50,
            retransmissions: 0,
            duration_ms: 200,
            client_message: None,
            refusal: None,
        };
        let node = Some(Uuid::from_u128(card.to_string().len() as u128));
        let session = [
            (200, EventKind::TftpTransfer(transfer)),
            (2200, EventKind::SessionStarted),
            (2700, boot_request(Some("web"), node, BootOutcome::Boot, "")),
            (4000, boot_report(BootStep::Hooked, None)),
            (34_000, boot_report(BootStep::Up, None)),
        ];
        for (millis, kind) in session.into_iter().take(events) {
            self.record_at(start + SignedDuration::from_millis(millis), Some(card), None, kind).await;
        }
    }
}

#[tokio::test]
async fn the_last_boot_is_drawn_beside_the_median_of_those_before() {
    let site = Site::new();
    for seconds_ago in [3000, 2000, 1000] {
        site.boot(mac(1), seconds_ago, 5).await;
    }
    let page = site.get("/ui/machines/52:54:00:00:00:01").await.page();
    let (_, table) =
        page.split_once("<table class=\"waterfall\">").unwrap_or_else(|| panic!("no picture: {page}"));
    let (table, _) = table.split_once("</table>").expect("the end of the table");
    for text in [
        "From the first sign of the boot to up; thin: the median of the 2 boots before.",
        "<th scope=\"row\">Files</th>",
        "<td class=\"number\">2.0 s</td>",
        "<th scope=\"row\">Loader to up</th>",
        "<td class=\"number\">30.0 s</td>",
        "<td class=\"number median\">34.0 s</td>",
        "<svg viewBox=\"0 0 1000 20\"",
        "<title>Login, median: 1.3 s</title>",
    ] {
        assert!(table.contains(text), "{text} is not in {table}");
    }
    // The Content-Security-Policy forbids inline styles.
    assert!(!page.contains("style="), "{page}");
    let live = site.get("/ui/machines/52:54:00:00:00:01?live=1").await.page();
    assert!(live.contains("<table class=\"waterfall\">"), "{live}");
}

#[tokio::test]
async fn the_first_page_shows_the_boots_of_a_week_and_their_times() {
    let site = Site::new();
    assert!(!site.get("/ui/").await.page().contains("<svg"), "an empty list has no picture");
    site.boot(mac(7), 4000, 3).await;
    for n in 0..3 {
        site.boot(mac(n), 1000 - i64::from(n), 5).await;
    }
    let page = site.get("/ui/").await.page();
    for text in [
        "Last hour <b>3 boots</b>",
        "Last day <b>4 boots</b>",
        "<b>3</b> up",
        "<b>1</b> failed",
        "The time until up counts from the first sign of the boot.",
        "<title>3 up</title>",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(!page.contains("Booting now"), "{page}");
    for path in ["/ui/?q=web", "/ui/?state=stopped"] {
        assert!(!site.get(path).await.page().contains("Last hour"), "{path}");
    }
}

#[tokio::test]
async fn a_storm_is_drawn_as_it_runs() {
    let site = Site::new();
    for n in 4..6 {
        site.boot(mac(n), 60, 5).await;
    }
    for n in 0..4 {
        site.boot(mac(n), 10, 3).await;
    }
    assert!(!site.get("/ui/").await.page().contains("Booting now"));
    let wait = boot_request(Some("web"), Some(Uuid::nil()), BootOutcome::Wait, "Cinder is away");
    site.record(mac(9), wait).await;
    let page = site.get("/ui/").await.page();
    let (_, storm) = page.split_once("Booting now").unwrap_or_else(|| panic!("no storm: {page}"));
    for text in ["<b>2</b> up", "<b>4</b> booting", "<b>1</b> waiting"] {
        assert!(storm.contains(text), "{text} is not in {storm}");
    }
}
