//! [`Progress`]: how far a machine has come on its last journey, folded from its events one by one.
//!
//! A journey begins when the machine reads something over TFTP or asks for the script that is the same for everybody,
//! and lasts until it begins anew. Nothing here reads a clock. What it all comes to at a given moment is told by
//! [`super::verdict`].

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::telemetry::{Answered, Event, What};

/// So long a machine may take from one file to the next, or from a file to its question, on one journey.
pub(super) const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// How far a machine has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When its journey began.
    pub began: Timestamp,
    /// When it came where it is.
    pub at: Timestamp,
    /// Where it is.
    pub stage: Stage,
    /// Journeys in a row on which it hooked no volume, this one included.
    #[serde(default)]
    pub journeys: u32,
    /// Whether it was told to wait because of them.
    #[serde(default)]
    pub paced: bool,
    /// How often in a row it has read the same file to its end, and nothing else.
    #[serde(default)]
    pub loads: u32,
    /// How often it may try on one journey.
    #[serde(default)]
    pub tries: u32,
    /// The volume of each step `hook-0`, `hook-1`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// What went wrong last on this journey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it hooked its volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooked: Option<Timestamp>,
}

/// Where on its way a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Stage {
    /// It has read this file, or looked how long it is.
    Loaded {
        /// The file's name.
        file: String,
        /// Over HTTP, and not over TFTP.
        #[serde(default)]
        http: bool,
    },
    /// It did not get this file.
    NotLoaded {
        /// The file's name.
        file: String,
        /// How that ended.
        outcome: String,
        /// Over HTTP, and not over TFTP.
        #[serde(default)]
        http: bool,
    },
    /// It has the script that is the same for everybody.
    Gathered,
    /// It asked for its own script, and got one by which it does not boot from a volume.
    Answered {
        /// `wait`, `local disk`, `unknown` or `refuse`.
        outcome: String,
        /// Why.
        reason: String,
    },
    /// It has a script to boot by.
    Sent {
        /// At which try.
        attempt: u32,
    },
    /// It has logged in and found the disks.
    Hooked,
    /// It reported a failure.
    Failed,
    /// Its operating system says that it is up.
    Up,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which.
    pub step: String,
    /// iPXE's error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<String>,
    /// At which try.
    pub attempt: u32,
}

impl Progress {
    /// A machine of which this is the first that is known.
    pub fn new(first: &Event) -> Self {
        let mut progress = Self {
            began: first.at,
            at: first.at,
            // Nowhere yet, and whatever comes first is of this journey.
            stage: Stage::NotLoaded { file: String::new(), outcome: String::new(), http: false },
            journeys: 1,
            paced: false,
            loads: 0,
            tries: 0,
            hooks: Vec::new(),
            failure: None,
            hooked: None,
        };
        progress.apply(first);
        progress
    }

    /// Goes on with what happened next.
    pub fn apply(&mut self, event: &Event) {
        if self.begins_anew(event) {
            // Whoever goes to the local disk is not meant to hook anything.
            let settled = self.hooked.is_some() || self.stage.is_local();
            // Nor does a plain question make a journey: whoever asks by itself asks as often as it likes.
            let counts = u32::from(!matches!(event.what, What::Answered(_)));
            self.journeys = if settled { 1 } else { self.journeys.saturating_add(counts) };
            self.paced &= !settled;
            (self.began, self.failure, self.hooked) = (event.at, None, None);
            self.loads = 0;
        }
        self.count_load(&event.what);
        self.stage = match &event.what {
            What::Transfer(transfer) => match transfer.outcome.as_ref() {
                "complete" | "unconfirmed" | "probe" | "replaced" => {
                    Stage::Loaded { file: transfer.file.clone(), http: false }
                }
                // New iPXE looks for a script beside itself and is content if there is none.
                "not found" if matches!(self.stage, Stage::Loaded { .. } | Stage::Gathered) => {
                    self.stage.clone()
                }
                outcome => {
                    Stage::NotLoaded { file: transfer.file.clone(), outcome: outcome.to_owned(), http: false }
                }
            },
            What::Fetched { file, size: Some(_) } => Stage::Loaded { file: file.clone(), http: true },
            What::Fetched { .. } if matches!(self.stage, Stage::Loaded { .. } | Stage::Gathered) => {
                self.stage.clone()
            }
            What::Fetched { file, size: None } => {
                Stage::NotLoaded { file: file.clone(), outcome: "not found".into(), http: true }
            }
            What::Gathered => Stage::Gathered,
            What::Answered(answered) => self.answered(answered),
            What::Paced { journeys, .. } => {
                self.paced = true;
                self.journeys = self.journeys.max(*journeys);
                self.stage.clone()
            }
            What::Reported { step, rc, attempt } => {
                self.reported(event.at, step.as_deref(), rc.as_ref(), *attempt)
            }
        };
        self.at = event.at;
    }

    /// A file that was read to its end, and read again: iPXE that is given itself instead of a script does so for ever.
    fn count_load(&mut self, what: &What) {
        let read = match what {
            What::Transfer(transfer) => {
                matches!(transfer.outcome.as_ref(), "complete" | "unconfirmed").then_some(&transfer.file)
            }
            What::Fetched { file, size } => size.and(Some(file)),
            _ => {
                self.loads = 0;
                None
            }
        };
        let Some(read) = read else { return };
        let again = matches!(&self.stage, Stage::Loaded { file, .. } if file == read);
        self.loads = if again { self.loads.saturating_add(1) } else { 1 };
    }

    /// Whether an event is the first of another journey.
    fn begins_anew(&self, event: &Event) -> bool {
        let on_its_way =
            matches!(self.stage, Stage::Loaded { .. } | Stage::NotLoaded { .. } | Stage::Gathered)
                && event.at.duration_since(self.at) < PATIENCE;
        match &event.what {
            What::Transfer(_) | What::Fetched { .. } | What::Gathered => {
                !on_its_way || self.stage == Stage::Gathered
            }
            // A machine that waits or was refused asks again as the same try.
            What::Answered(answered) => {
                answered.attempt == 1 && matches!(self.stage, Stage::Hooked | Stage::Up | Stage::Failed)
            }
            What::Paced { .. } | What::Reported { .. } => false,
        }
    }

    fn answered(&mut self, answered: &Answered) -> Stage {
        self.tries = answered.tries;
        if answered.outcome == "boot" {
            self.hooks.clone_from(&answered.hooks);
            return Stage::Sent { attempt: answered.attempt };
        }
        Stage::Answered {
            outcome: answered.outcome.clone().into_owned(),
            reason: answered.reason.clone().unwrap_or_default(),
        }
    }

    fn reported(&mut self, at: Timestamp, step: Option<&str>, rc: Option<&String>, attempt: u32) -> Stage {
        match (step, rc) {
            (Some("hooked"), None) => {
                (self.failure, self.hooked) = (None, Some(at));
                (self.journeys, self.paced) = (1, false);
                Stage::Hooked
            }
            (Some("up"), _) => {
                self.failure = None;
                self.hooked.get_or_insert(at);
                (self.journeys, self.paced) = (1, false);
                Stage::Up
            }
            (step, _) => {
                let step = step.unwrap_or("a step without a name").to_owned();
                self.failure = Some(Failure { step, rc: rc.cloned(), attempt });
                Stage::Failed
            }
        }
    }
}

impl Stage {
    fn is_local(&self) -> bool {
        matches!(self, Self::Answered { outcome, .. } if outcome == "local disk")
    }
}
