//! [`Page`]: an answer for a browser, and [`Trouble`]: a page that says why there is none.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::store::StoreError;

/// What a page may do: show what comes from here, and send its forms here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A page that is to be drawn.
pub(super) struct Page<T>(pub(super) StatusCode, pub(super) T);

/// A handler's result.
pub(super) type Answer<T> = Result<Page<T>, Trouble>;

/// Why something cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    status: StatusCode,
    heading: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "ui/trouble.html")]
struct TroublePage<'a> {
    here: &'static str,
    heading: &'a str,
    text: &'a str,
}

impl Trouble {
    pub(super) fn new(status: StatusCode, heading: &'static str, text: impl Into<String>) -> Self {
        Self { status, heading, text: text.into() }
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    /// Something broke, and the log says what.
    pub(super) fn broken() -> Self {
        let text = "volboot could not draw this page. Its log says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something broke", text)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a page could not be drawn");
        let text = "The store does not answer. volboot's log says why.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Not available", text)
    }
}

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.1.render() {
            Ok(text) => {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
                ];
                (self.0, headers, text).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "a page could not be drawn");
                (StatusCode::INTERNAL_SERVER_ERROR, "volboot could not draw this page.").into_response()
            }
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let Self { status, heading, text } = &self;
        Page(*status, TroublePage { here: "", heading, text }).into_response()
    }
}
