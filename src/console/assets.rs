//! The page's files, as they are: nothing is built, nothing is loaded from elsewhere.

pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub text: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

pub const PAGE: Asset = Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("page/index.html") };

/// What the page loads.
pub const PARTS: &[Asset] = &[
    Asset { path: "/console/console.css", content_type: "text/css; charset=utf-8", text: include_str!("page/console.css") },
    Asset { path: "/console/icon.svg", content_type: "image/svg+xml", text: include_str!("page/icon.svg") },
    Asset { path: "/console/console.js", content_type: JAVASCRIPT, text: include_str!("page/console.js") },
    Asset { path: "/console/dom.js", content_type: JAVASCRIPT, text: include_str!("page/dom.js") },
    Asset { path: "/console/words.js", content_type: JAVASCRIPT, text: include_str!("page/words.js") },
    Asset { path: "/console/feed.js", content_type: JAVASCRIPT, text: include_str!("page/feed.js") },
    Asset { path: "/console/verdict.js", content_type: JAVASCRIPT, text: include_str!("page/verdict.js") },
    Asset { path: "/console/map.js", content_type: JAVASCRIPT, text: include_str!("page/map.js") },
    Asset { path: "/console/links.js", content_type: JAVASCRIPT, text: include_str!("page/links.js") },
    Asset { path: "/console/heat.js", content_type: JAVASCRIPT, text: include_str!("page/heat.js") },
    Asset { path: "/console/flow.js", content_type: JAVASCRIPT, text: include_str!("page/flow.js") },
    Asset { path: "/console/tasks.js", content_type: JAVASCRIPT, text: include_str!("page/tasks.js") },
    Asset { path: "/console/lists.js", content_type: JAVASCRIPT, text: include_str!("page/lists.js") },
    Asset { path: "/console/theme.js", content_type: JAVASCRIPT, text: include_str!("page/theme.js") },
];
