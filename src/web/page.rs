//! [`Page`]: an HTML response with its security headers, and [`ErrorPage`]: the page for an error.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::store::StoreError;

/// The policy of every page: resources, connections and form targets only on this server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                                       img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A status and a template, rendered as the response.
pub(super) struct Page<T>(pub(super) StatusCode, pub(super) T);

/// The result of a handler.
pub(super) type PageResult<T> = Result<Page<T>, ErrorPage>;

/// An error, rendered as a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorPage {
    status: StatusCode,
    heading: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "ui/error.html")]
struct ErrorTemplate<'a> {
    section: &'static str,
    heading: &'a str,
    text: &'a str,
}

impl ErrorPage {
    pub(super) fn new(status: StatusCode, heading: &'static str, text: impl Into<String>) -> Self {
        Self { status, heading, text: text.into() }
    }

    /// 404
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    /// 500: the log has the cause.
    pub(super) fn internal() -> Self {
        let text = "volboot could not render this page. See the log for the cause.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", text)
    }
}

impl From<StoreError> for ErrorPage {
    fn from(error: StoreError) -> Self {
        let text = match error {
            // Logged once by the store.
            StoreError::ReadOnly(reason) => format!("The store is read-only: {reason}."),
            StoreError::Unavailable(_) | StoreError::Damaged(_) => {
                tracing::error!(%error, "cannot use the store for a page");
                "The store is unavailable. See the log for the cause.".to_owned()
            }
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", text)
    }
}

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.1.render() {
            Ok(text) => {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
                ];
                (self.0, headers, text).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "cannot render a page");
                (StatusCode::INTERNAL_SERVER_ERROR, "volboot could not render this page.").into_response()
            }
        }
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let Self { status, heading, text } = &self;
        Page(*status, ErrorTemplate { section: "", heading, text }).into_response()
    }
}
