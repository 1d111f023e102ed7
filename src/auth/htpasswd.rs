//! [`Htpasswd`]: names and bcrypt hashes from a file that Apache's `htpasswd -B` writes.
//!
//! bcrypt only, as in Ironic: the older hash formats of htpasswd files can be reversed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bcrypt::HashParts;

/// The highest bcrypt cost: about one second of CPU time. The cost is an exponent, so a typing error could make a
/// single password check take an hour.
const MAX_COST: u32 = 14;

/// Names with their hashes, and the version of the file.
#[derive(Debug, Default)]
pub(super) struct Htpasswd {
    hashes: HashMap<String, String>,
    /// Hash that is verified for unknown names, so timing does not reveal which names exist.
    decoy: Option<String>,
    version: Option<FileVersion>,
}

/// Detects changes of the file: modification time and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    modified: SystemTime,
    length: u64,
}

/// The htpasswd file is unreadable or malformed.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    /// The file cannot be read.
    #[error("cannot read the htpasswd file {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A line is not a name with a bcrypt hash.
    #[error(
        "{}, line {line}: expected a name, a colon, and a bcrypt hash of cost {MAX_COST} or less, as \
         `htpasswd -B` writes it",
        file.display()
    )]
    Line {
        /// The file.
        file: PathBuf,
        /// The line number, from 1.
        line: usize,
    },
}

impl Htpasswd {
    /// Reads the file; `None` if its version is still `current`.
    pub(super) fn read_blocking(
        path: &Path,
        current: Option<FileVersion>,
    ) -> Result<Option<Self>, HtpasswdError> {
        let read_error = |error| HtpasswdError::Read(path.to_owned(), error);
        let version = file_version(path).map_err(read_error)?;
        if current == Some(version) {
            return Ok(None);
        }
        let text = fs::read_to_string(path).map_err(read_error)?;
        let mut htpasswd = Self { version: Some(version), ..Self::default() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = parse_entry(line)
                .ok_or_else(|| HtpasswdError::Line { file: path.to_owned(), line: number + 1 })?;
            // The first entry of a name wins, as in Ironic.
            htpasswd.hashes.entry(name.to_owned()).or_insert_with(|| hash.to_owned());
            htpasswd.decoy.get_or_insert_with(|| hash.to_owned());
        }
        Ok(Some(htpasswd))
    }

    /// The version of the file when it was read.
    pub(super) fn version(&self) -> Option<FileVersion> {
        self.version
    }

    /// Verifies a password. Unknown names take as long as known names.
    pub(super) fn verify_blocking(&self, name: &str, password: &str) -> bool {
        let hash = self.hashes.get(name);
        let Some(candidate) = hash.or(self.decoy.as_ref()) else { return false };
        // bcrypt reads at most 71 bytes: a longer password is wrong instead of truncated.
        bcrypt::non_truncating_verify(password, candidate).unwrap_or(false) && hash.is_some()
    }
}

fn file_version(path: &Path) -> io::Result<FileVersion> {
    let metadata = fs::metadata(path)?;
    Ok(FileVersion { modified: metadata.modified()?, length: metadata.len() })
}

/// Splits a line into name and hash; `None` if the hash is not bcrypt or its cost is too high.
fn parse_entry(line: &str) -> Option<(&str, &str)> {
    let (name, hash) = line.split_once(':')?;
    let is_bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| hash.starts_with(prefix));
    let parts: HashParts = hash.parse().ok()?;
    (is_bcrypt && !name.is_empty() && parts.get_cost() <= MAX_COST).then_some((name, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Htpasswd, String> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        fs::write(file.path(), text).expect("write succeeds");
        let result = Htpasswd::read_blocking(file.path(), None);
        result.map(|htpasswd| htpasswd.expect("a new version")).map_err(|error| error.to_string())
    }

    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).expect("bcrypt hash")
    }

    #[test]
    fn a_name_is_accepted_only_with_its_own_password() {
        let apache_hash = hash("secret").replacen("$2b$", "$2y$", 1);
        let text =
            format!("# operators\n\nann:{apache_hash}\nbob:{}\nann:{}\n", hash("other"), hash("later"));
        let htpasswd = read(&text).expect("valid file");
        assert!(htpasswd.verify_blocking("ann", "secret") && htpasswd.verify_blocking("bob", "other"));
        for (name, password) in
            [("ann", "other"), ("ann", "later"), ("ann", ""), ("eve", "secret"), ("", "secret")]
        {
            assert!(!htpasswd.verify_blocking(name, password), "{name}");
        }
        assert!(!read("").expect("valid file").verify_blocking("ann", "secret"));
    }

    #[test]
    fn a_password_beyond_bcrypt_s_71_bytes_is_wrong() {
        let htpasswd = read(&format!("ann:{}", hash(&"x".repeat(71)))).expect("valid file");
        assert!(htpasswd.verify_blocking("ann", &"x".repeat(71)));
        assert!(!htpasswd.verify_blocking("ann", &"x".repeat(72)));
    }

    #[test]
    fn a_line_without_a_bcrypt_hash_is_an_error_with_its_number() {
        let good = format!("ann:{}", hash("secret"));
        let costly = hash("secret").replacen("$2b$04$", "$2b$31$", 1);
        for bad in
            ["bob", "bob:", "bob:secret", "bob:$apr1$x$y", "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", &costly]
        {
            let error = read(&format!("{good}\n{bad}\n")).expect_err("invalid line");
            assert!(error.contains(", line 2: "), "{bad}: {error}");
        }
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let first = Htpasswd::read_blocking(file.path(), None).expect("valid file").expect("a new version");
        assert!(Htpasswd::read_blocking(file.path(), first.version()).expect("valid file").is_none());
        fs::write(file.path(), format!("ann:{}", hash("secret"))).expect("write succeeds");
        assert!(Htpasswd::read_blocking(file.path(), first.version()).expect("valid file").is_some());
    }
}
