//! [`Htpasswd`]: the file of names and password hashes that Apache's `htpasswd -B` writes.
//!
//! bcrypt only, as in Ironic: the older kinds of hashes in such files can be reversed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bcrypt::HashParts;

/// The greatest cost of a hash: about a second of a core. The cost is an exponent, so one typing error further on
/// a single password could keep a core busy for an hour.
const GREATEST_COST: u32 = 14;

/// Names and their hashes, and the state of the file they come from.
#[derive(Debug, Default)]
pub(super) struct Htpasswd {
    hashes: HashMap<String, String>,
    /// Checked in the place of the hash of a name that there is not, so that the answer takes as long.
    decoy: Option<String>,
    version: Option<Version>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    modified: SystemTime,
    length: u64,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// It cannot be read.
    #[error("cannot read the password file {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A line is no name with a bcrypt hash.
    #[error(
        "{}, line {line}: expected a name, a colon, and a bcrypt hash of cost {GREATEST_COST} or less, as \
         `htpasswd -B` writes it",
        file.display()
    )]
    Line {
        /// The file.
        file: PathBuf,
        /// The number of the line.
        line: usize,
    },
}

impl Htpasswd {
    /// Reads the file, if it is another than the one known.
    pub(super) fn read_blocking(path: &Path, known: Option<Version>) -> Result<Option<Self>, HtpasswdError> {
        let failed = |error| HtpasswdError::Read(path.to_owned(), error);
        let version = version(path).map_err(failed)?;
        if known == Some(version) {
            return Ok(None);
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut read = Self { version: Some(version), ..Self::default() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) =
                entry(line).ok_or_else(|| HtpasswdError::Line { file: path.to_owned(), line: number + 1 })?;
            // The first line of a name counts, as in Ironic.
            read.hashes.entry(name.to_owned()).or_insert_with(|| hash.to_owned());
            read.decoy.get_or_insert_with(|| hash.to_owned());
        }
        Ok(Some(read))
    }

    /// The state of the file when it was read.
    pub(super) fn version(&self) -> Option<Version> {
        self.version
    }

    /// Whether a name has this password. As slow for a name that there is not as for one that there is.
    pub(super) fn verify_blocking(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let Some(checked) = hash.or(self.decoy.as_ref()) else { return false };
        // Passwords longer than the 71 bytes that bcrypt sees are wrong, rather than cut.
        bcrypt::non_truncating_verify(password, checked).unwrap_or(false) && hash.is_some()
    }
}

fn version(path: &Path) -> io::Result<Version> {
    let metadata = fs::metadata(path)?;
    Ok(Version { modified: metadata.modified()?, length: metadata.len() })
}

fn entry(line: &str) -> Option<(&str, &str)> {
    let (name, hash) = line.split_once(':')?;
    let known_kind = ["$2y$", "$2b$", "$2a$"].iter().any(|kind| hash.starts_with(kind));
    let parts: HashParts = hash.parse().ok()?;
    (known_kind && !name.is_empty() && parts.get_cost() <= GREATEST_COST).then_some((name, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Htpasswd, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("is written");
        let read = Htpasswd::read_blocking(file.path(), None);
        read.map(|read| read.expect("is new")).map_err(|error| error.to_string())
    }

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).expect("hashes")
    }

    #[test]
    fn a_name_is_let_in_with_its_password_and_no_other() {
        let apaches = hash("secret").replacen("$2b$", "$2y$", 1);
        let text = format!("# people\n\nann:{apaches}\nbob:{}\nann:{}\n", hash("other"), hash("later"));
        let known = read(&text).expect("is read");
        assert!(known.verify_blocking("ann", "secret") && known.verify_blocking("bob", "other"));
        for (name, password) in
            [("ann", "other"), ("ann", "later"), ("ann", ""), ("eve", "secret"), ("", "secret")]
        {
            assert!(!known.verify_blocking(name, password), "{name}");
        }
        assert!(!read("").expect("is read").verify_blocking("ann", "secret"));
    }

    #[test]
    fn a_password_longer_than_bcrypt_sees_is_wrong() {
        let known = read(&format!("ann:{}", hash(&"x".repeat(71)))).expect("is read");
        assert!(known.verify_blocking("ann", &"x".repeat(71)));
        assert!(!known.verify_blocking("ann", &"x".repeat(72)));
    }

    #[test]
    fn what_is_no_bcrypt_hash_is_refused_by_its_line() {
        let good = format!("ann:{}", hash("secret"));
        let costly = hash("secret").replacen("$2b$04$", "$2b$31$", 1);
        for bad in
            ["bob", "bob:", "bob:secret", "bob:$apr1$x$y", "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", &costly]
        {
            let error = read(&format!("{good}\n{bad}\n")).expect_err("is refused");
            assert!(error.contains(", line 2: "), "{bad}: {error}");
        }
    }

    #[test]
    fn a_file_that_did_not_change_is_not_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = Htpasswd::read_blocking(file.path(), None).expect("is read").expect("is new");
        assert!(Htpasswd::read_blocking(file.path(), read.version()).expect("is read").is_none());
        fs::write(file.path(), format!("ann:{}", hash("secret"))).expect("is written");
        assert!(Htpasswd::read_blocking(file.path(), read.version()).expect("is read").is_some());
    }
}
