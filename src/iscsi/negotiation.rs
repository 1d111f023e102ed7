//! [`Negotiation`]: state machine of a login, without the framing (RFC 7143 §6.3, §12, §13).
//!
//! Requests carry the same keys as iPXE's, in the same stages, and ask for the next stage each time. iPXE offers CHAP without
//! credentials too, so a target that requires CHAP says so.

use super::login::LoginParameters;
use super::text::{Pairs, encode};
use super::{Error, chap};

/// The keys of the operational stage. Integer values are limits, so the target may lower them.
const OPERATIONAL_KEYS: [(&str, &str); 14] = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxConnections", "1"),
    ("InitialR2T", "Yes"),
    ("ImmediateData", "No"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("MaxBurstLength", "262144"),
    ("FirstBurstLength", "65536"),
    ("DefaultTime2Wait", "0"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "1"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];
/// Keys that a target declares without asking.
const DECLARED_KEYS: [&str; 3] = ["TargetPortalGroupTag", "TargetAlias", "TargetAddress"];
/// The most requests of a login: four stages, and some rounds of a slow target.
const MAX_REQUESTS: usize = 16;

/// A stage of the login (§11.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginStage {
    Security = 0,
    Operational = 1,
    FullFeature = 3,
}

impl LoginStage {
    pub(super) fn from_bits(bits: u8) -> Result<Self, Error> {
        match bits & 3 {
            0 => Ok(Self::Security),
            1 => Ok(Self::Operational),
            3 => Ok(Self::FullFeature),
            _ => Err(Error::Protocol("a login response has an unknown stage")),
        }
    }

    /// The stage that a request asks for.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Security => Self::Operational,
            Self::Operational | Self::FullFeature => Self::FullFeature,
        }
    }
}

/// The progress of a login.
#[derive(Debug)]
pub(super) struct Negotiation {
    parameters: LoginParameters,
    stage: LoginStage,
    requests: usize,
    asked_for_algorithm: bool,
    asked_for_operational: bool,
    used_chap: bool,
}

impl Negotiation {
    /// The negotiation, and the text of its first request.
    pub(super) fn start(parameters: LoginParameters) -> (Self, Vec<u8>) {
        let text = encode(&[
            ("InitiatorName", &parameters.initiator),
            ("TargetName", &parameters.target),
            ("SessionType", "Normal"),
            ("AuthMethod", "CHAP,None"),
        ]);
        let negotiation = Self {
            parameters,
            stage: LoginStage::Security,
            requests: 1,
            asked_for_algorithm: false,
            asked_for_operational: false,
            used_chap: false,
        };
        (negotiation, text)
    }

    /// The stage of the next request.
    pub(super) fn stage(&self) -> LoginStage {
        self.stage
    }

    /// Whether the target has authenticated the initiator by CHAP.
    pub(super) fn used_chap(&self) -> bool {
        self.used_chap
    }

    /// Takes the text of a response, and returns the text of the next request. `entered` is the stage that the response
    /// grants. `None`: the login is complete.
    pub(super) fn advance(
        &mut self,
        text: &[u8],
        entered: Option<LoginStage>,
    ) -> Result<Option<Vec<u8>>, Error> {
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(Error::Protocol("the login does not end"));
        }
        let pairs = Pairs::parse(text)?;
        for digest in ["HeaderDigest", "DataDigest"] {
            if pairs.get(digest).is_some_and(|value| value != "None") {
                return Err(Error::Protocol("the target insists on digests"));
            }
        }
        if let Some(stage) = entered {
            self.stage = stage;
        }
        match self.stage {
            LoginStage::FullFeature => Ok(None),
            LoginStage::Security => self.authenticate(&pairs).map(Some),
            LoginStage::Operational if !self.asked_for_operational => {
                self.asked_for_operational = true;
                Ok(Some(encode(&OPERATIONAL_KEYS)))
            }
            LoginStage::Operational => Ok(Some(answer_keys(&pairs))),
        }
    }

    /// The next request of the security stage.
    fn authenticate(&mut self, pairs: &Pairs) -> Result<Vec<u8>, Error> {
        if pairs.get("CHAP_C").is_some() {
            let (name, secret) = self
                .parameters
                .chap
                .as_ref()
                .ok_or(Error::Protocol("the target sent a CHAP challenge unasked"))?;
            let response = chap::respond(pairs, secret)?;
            self.used_chap = true;
            return Ok(encode(&[("CHAP_N", name), ("CHAP_R", &response)]));
        }
        match pairs.get("AuthMethod") {
            Some("CHAP") if self.parameters.chap.is_some() && !self.asked_for_algorithm => {
                self.asked_for_algorithm = true;
                Ok(encode(&[("CHAP_A", chap::MD5)]))
            }
            Some("CHAP") if self.parameters.chap.is_none() => Err(Error::CredentialsRequired),
            Some("None") | None => Ok(Vec::new()),
            Some(_) => Err(Error::Protocol("the target chose an authentication method that was not offered")),
        }
    }
}

/// Answers keys that the target has added to the negotiation: none is understood.
fn answer_keys(pairs: &Pairs) -> Vec<u8> {
    let is_expected = |key: &str| {
        OPERATIONAL_KEYS.iter().any(|(offered, _)| *offered == key) || DECLARED_KEYS.contains(&key)
    };
    let unknown: Vec<_> =
        pairs.keys().filter(|key| !is_expected(key)).map(|key| (key, "NotUnderstood")).collect();
    encode(&unknown)
}
