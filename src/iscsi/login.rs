//! The parameters of a login, and [`LoginRefusal`]: the status by which a target refuses it.

use std::fmt;

use secrecy::SecretString;

/// An initiator session identifier (RFC 7143 §11.12.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isid([u8; 6]);

impl Isid {
    /// The type *random*: T = 10b, and A is reserved.
    const RANDOM: u8 = 0b1000_0000;

    /// An ISID of type *random* from these bytes: B and C, and the qualifier D.
    pub const fn from_random(bytes: [u8; 5]) -> Self {
        let [b0, b1, c, d0, d1] = bytes;
        Self([Self::RANDOM, b0, b1, c, d0, d1])
    }

    /// The bytes on the wire.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// The parameters of a login to a target.
#[derive(Debug, Clone)]
pub struct LoginParameters {
    /// The initiator name.
    pub initiator: String,
    /// The target name.
    pub target: String,
    /// CHAP name and secret.
    pub chap: Option<(String, SecretString)>,
}

/// The status of a refused login: class and detail (RFC 7143 §11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRefusal {
    /// 2 for an error of the initiator, 3 for an error of the target.
    pub class: u8,
    /// The detail of the class.
    pub detail: u8,
}

impl LoginRefusal {
    /// Name or secret is wrong, or the target requires CHAP.
    pub const AUTHENTICATION: Self = Self { class: 2, detail: 1 };
    /// The target does not admit the initiator.
    pub const AUTHORIZATION: Self = Self { class: 2, detail: 2 };
    /// The portal has no target of this name, or hides it from the initiator.
    pub const NOT_FOUND: Self = Self { class: 2, detail: 3 };

    /// Whether the target may admit the same login later.
    pub const fn is_transient(self) -> bool {
        self.class != 2
    }
}

impl fmt::Display for LoginRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match (self.class, self.detail) {
            (2, 1) => "authentication failed",
            (2, 2) => "the target does not admit this initiator",
            (2, 3) => "target not found",
            (2, 4) => "the target was removed",
            (2, 5) => "unsupported version",
            (2, 6) => "too many connections",
            (2, 7) => "a parameter is missing",
            (2, 9) => "session type not supported",
            (2, _) => "initiator error",
            (3, 1) => "service unavailable",
            (3, 2) => "out of resources",
            (3, _) => "target error",
            _ => "unknown status",
        };
        write!(f, "{meaning} (iSCSI login status {:02x}{:02x})", self.class, self.detail)
    }
}
