//! The runs.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::history::{HistoryEntry, RunEvent};
use super::run::{Run, describe};

/// The seeds of the short form.
const RUNS: u64 = 60;

fn read_variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_run_breaks_a_rule() {
    if let Some(seed) = read_variable("VOLBOOT_HISTORY_SEED") {
        let run = Run::of_seed(seed);
        println!("{}", describe(&run.history));
        assert_eq!(run.fault, None);
        return;
    }
    let first = read_variable("VOLBOOT_HISTORY_FIRST").unwrap_or(0);
    let runs = read_variable("VOLBOOT_HISTORY_RUNS").unwrap_or(RUNS);
    let started = std::time::Instant::now();
    let next = AtomicU64::new(first);
    let counts = parking_lot::Mutex::new([0; 4]);
    let failures = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    let run = Run::of_seed(seed);
                    let mut counts = counts.lock();
                    counts[0] += run.count(|event| matches!(event, RunEvent::Asked { .. }));
                    counts[1] += run.count(|event| matches!(event, RunEvent::Script { .. }));
                    counts[2] += run.count(|event| matches!(event, RunEvent::Operation { .. }));
                    counts[3] += run.count(|event| matches!(event, RunEvent::CallEffect { .. }));
                    drop(counts);
                    if let Some(fault) = run.fault {
                        report(seed, &fault, &run.history);
                        failures.lock().push(seed);
                    }
                }
            });
        }
    });
    let [asked, scripts, operations, effects] = *counts.lock();
    println!(
        "{runs} runs in {:.1} s: {asked} boot requests, {scripts} scripts, {operations} operations, {effects} changes in Cinder",
        started.elapsed().as_secs_f64()
    );
    let failures = failures.lock();
    assert!(failures.is_empty(), "{} of {runs} runs broke a rule; seeds {failures:?}", failures.len());
}

/// Prints a failed run: its history goes into a file, if there is a folder for it.
fn report(seed: u64, fault: &str, history: &[HistoryEntry]) {
    println!("seed {seed}: {fault}");
    match std::env::var_os("VOLBOOT_HISTORY_FOLDER") {
        Some(folder) => {
            let file = Path::new(&folder).join(format!("{seed}.txt"));
            std::fs::write(file, describe(history)).expect("the folder is writable");
        }
        None => println!("{}", describe(history)),
    }
}
