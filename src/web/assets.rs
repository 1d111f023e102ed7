//! Style, script and icon of the pages: compiled in, so that there is nothing to install and nothing to load elsewhere.

use axum::http::{HeaderName, header};

type Asset = ([(HeaderName, &'static str); 1], &'static str);

pub(super) async fn style() -> Asset {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../templates/ui/style.css"))
}

pub(super) async fn script() -> Asset {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("../../templates/ui/live.js"))
}

pub(super) async fn icon() -> Asset {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("../../templates/ui/icon.svg"))
}
