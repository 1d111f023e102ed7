//! Responses of OpenStack services, for the clients of Keystone and Cinder: bounded bodies, and the classes of
//! failures.
//!
//! The texts of errors belong to each client, because each service has its own format for messages.

use std::error::Error;

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};

/// The largest body that is read. Catalogues of large clouds have some hundred kilobytes.
pub(super) const MAX_BODY_BYTES: usize = 4 << 20;

/// A complete response.
pub(crate) struct ServiceResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl ServiceResponse {
    /// Reads the rest of a response.
    pub(crate) async fn read(mut response: Response) -> Result<Self, TransportError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(TransportError::BodyTooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }
}

/// The meaning of a status for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusClass {
    /// 2xx.
    Success,
    /// The service refused the request: 4xx, except for the temporary ones.
    Refused,
    /// A later request may succeed: 408, 429 and 5xx.
    Temporary,
    /// No status of an API, such as a redirect.
    Unexpected,
}

impl From<StatusCode> for StatusClass {
    fn from(status: StatusCode) -> Self {
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Temporary,
            _ if status.is_success() => Self::Success,
            _ if status.is_client_error() => Self::Refused,
            _ if status.is_server_error() => Self::Temporary,
            _ => Self::Unexpected,
        }
    }
}

/// The reason that there is no complete response. A cause is the innermost one, which tells an operator most, and
/// does not contain the URL.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// The response was not complete in time.
    TimedOut,
    /// There is no connection.
    NotConnected(String),
    /// The exchange failed in another way, such as a closed connection.
    Interrupted(String),
    /// The body exceeds [`MAX_BODY_BYTES`].
    BodyTooLarge,
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        // An attempt to connect can time out too.
        if error.is_timeout() {
            return Self::TimedOut;
        }
        let not_connected = error.is_connect();
        // A URL may contain a secret.
        let error = error.without_url();
        let mut cause: &dyn Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if not_connected {
            Self::NotConnected(cause.to_string())
        } else {
            Self::Interrupted(cause.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn every_status_has_a_class() {
        let class = |status| StatusClass::from(StatusCode::from_u16(status).expect("a status"));
        for (statuses, expected) in [
            (&[200, 202, 204][..], StatusClass::Success),
            (&[400, 401, 403, 404, 409, 413, 499], StatusClass::Refused),
            (&[408, 429, 500, 503, 599], StatusClass::Temporary),
            (&[101, 300, 302, 304, 600, 999], StatusClass::Unexpected),
        ] {
            for status in statuses {
                assert_eq!(class(*status), expected, "{status}");
            }
        }
    }

    #[tokio::test]
    async fn body_is_bounded() {
        let response = |length| Response::from(http::Response::new("x".repeat(length)));
        let largest = ServiceResponse::read(response(MAX_BODY_BYTES)).await.expect("has the largest length");
        assert_eq!(largest.body.len(), MAX_BODY_BYTES);
        let too_large = ServiceResponse::read(response(MAX_BODY_BYTES + 1)).await;
        assert!(matches!(too_large, Err(TransportError::BodyTooLarge)));
    }

    async fn get(url: &str, timeout: Duration) -> TransportError {
        crate::tls::install_provider();
        let request = reqwest::Client::new().get(url).timeout(timeout);
        request.send().await.expect_err("has no response").into()
    }

    #[tokio::test]
    async fn failures_are_told_apart_and_name_their_innermost_cause() {
        let patient = Duration::from_secs(60);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/secret", listener.local_addr().expect("is bound"));
        // The kernel connects, and the listener does not answer.
        let error = get(&url, Duration::from_millis(20)).await;
        assert!(matches!(error, TransportError::TimedOut), "{error:?}");
        let close_each = async {
            loop {
                drop(listener.accept().await.expect("accepts"));
            }
        };
        let error = tokio::select! {
            error = get(&url, patient) => error,
            () = close_each => unreachable!("accepts forever"),
        };
        let TransportError::Interrupted(cause) = &error else { panic!("{error:?}") };
        assert!(!cause.is_empty() && !cause.contains("secret"), "{cause}");
        drop(listener);
        let error = get(&url, patient).await;
        let TransportError::NotConnected(cause) = &error else { panic!("{error:?}") };
        assert!(cause.starts_with("Connection refused"), "{cause}");
        let error = get("http://:80/secret", patient).await;
        let TransportError::Interrupted(cause) = &error else { panic!("{error:?}") };
        assert!(!cause.contains("secret"), "{cause}");
    }
}
