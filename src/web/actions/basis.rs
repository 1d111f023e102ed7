//! [`Basis`]: what a page showed when it offered an action. The form carries it, so that a page that is out of date cannot act on
//! something else: the action is refused, and shown again with what is there now.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// A digest of what an action changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct Basis(String);

/// The form of an action with a basis.
#[derive(Debug, Default, Deserialize)]
pub(super) struct BasisForm {
    #[serde(default)]
    basis: String,
}

impl Basis {
    /// The basis of what these texts describe.
    pub(super) fn of(texts: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        for text in texts {
            hasher.update(text.len().to_be_bytes());
            hasher.update(text);
        }
        Self(hasher.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
    }

    /// Whether the form is of a page that showed the same.
    pub(super) fn is_of(&self, form: &BasisForm) -> bool {
        self.0 == form.basis
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_is_of_one_state_only() {
        let basis = Basis::of(&["a", "bc"]);
        assert!(basis.is_of(&BasisForm { basis: basis.to_string() }));
        for other in [Basis::of(&["ab", "c"]), Basis::of(&["a", "bd"]), Basis::of(&[])] {
            assert!(!basis.is_of(&BasisForm { basis: other.to_string() }));
        }
        assert!(!basis.is_of(&BasisForm::default()));
    }
}
