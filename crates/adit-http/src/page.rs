//! Pages of our own: small, readable on a phone, light and dark, without anything from elsewhere.

use http::StatusCode;
use http::header::HeaderValue;

/// What a page says.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The status.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'a str,
    /// One line.
    pub title: &'a str,
    /// One or two sentences for the visitor. Nothing internal.
    pub text: &'a str,
    /// The request's id, which the operator can search for.
    pub request_id: &'a str,
}

/// Whether the client wants JSON: it names it, and not HTML.
#[must_use]
pub fn wants_json(accept: Option<&HeaderValue>) -> bool {
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("json") && !accept.contains("html")
}

impl Page<'_> {
    /// The page as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        format!(
            "{{\"status\":{},\"error\":\"{}\",\"message\":\"{}\",\"request_id\":\"{}\"}}\n",
            self.status.as_u16(),
            self.code,
            self.text,
            self.request_id
        )
    }

    /// The page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let (status, title, text, id) = (self.status.as_u16(), self.title, self.text, self.request_id);
        format!(
            "{HEAD}<title>{title}</title>{STYLE}<main><p class=s>{status}</p><h1>{title}</h1><p>{text}</p><footer>Request {id}</footer></main>\n"
        )
    }
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">";

const STYLE: &str = "<style>:root{color-scheme:light dark;--b:#fbfaf8;--t:#23211e;--m:#7a756d;--a:#c2622d}\
@media(prefers-color-scheme:dark){:root{--b:#191816;--t:#eceae6;--m:#97928a;--a:#e58a57}}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--b);color:var(--t);\
font:1.05rem/1.6 system-ui,sans-serif}main{max-width:32rem;padding:2rem}\
.s{margin:0;color:var(--a);font-weight:600;letter-spacing:.08em}h1{margin:.2rem 0 .8rem;font-size:1.9rem;line-height:1.2}\
p{margin:0 0 1rem}footer{margin-top:2.5rem;color:var(--m);font-size:.8rem;overflow-wrap:anywhere}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_its_status_and_request() {
        let page = Page {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "no_connection",
            title: "Home is away",
            text: "Try again soon.",
            request_id: "abc",
        };
        let html = page.html();
        assert!(html.contains("503") && html.contains("Request abc") && html.contains("Home is away"));
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
        assert!(page.json().starts_with("{\"status\":503,\"error\":\"no_connection\""));
    }

    #[test]
    fn json_is_for_those_who_ask() {
        let with = |accept| wants_json(Some(&HeaderValue::from_static(accept)));
        assert!(with("application/json"));
        assert!(with("application/problem+json, */*"));
        assert!(!with("text/html,application/json;q=0.9"));
        assert!(!with("*/*"));
    }
}
