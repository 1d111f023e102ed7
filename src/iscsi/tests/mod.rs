//! Tests of the session without sockets. `tests/fuzz` compiles this file and [`check`] as well.

pub(crate) mod check;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod logins;
#[cfg(test)]
mod target;

use super::login::{Isid, LoginParameters};

/// An ISID of type *random*.
const ISID: Isid = Isid::from_random([1, 2, 3, 4, 5]);

fn parameters() -> LoginParameters {
    LoginParameters {
        initiator: "iqn.2017-08.org.example:web-1".to_owned(),
        target: "iqn.2026-01.org.example:root".to_owned(),
        chap: Some(("web-1".to_owned(), "secretsecret".to_owned().into())),
    }
}
