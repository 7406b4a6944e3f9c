//! Pages of our own: small, readable on a phone, light and dark, without anything from elsewhere. They say honestly which
//! part of the way is broken.

use std::borrow::Cow;

use http::StatusCode;
use http::header::HeaderValue;
use serde_json::json;

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
    /// The host that was asked for; empty where it is not known.
    pub host: &'a str,
    /// Which part of the way is broken, where one is.
    pub broken: Option<Hop>,
}

/// A part of the way from a visitor to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// From the edge to home: no connector is there.
    Home,
    /// At home: the connector is there, the service is not.
    Service,
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
        let (status, request_id) = (self.status.as_u16(), self.request_id);
        let page = json!({
            "status": status, "error": self.code, "message": self.text, "request_id": request_id,
        });
        format!("{page}\n")
    }

    /// The page as HTML.
    #[must_use]
    pub fn html(&self) -> String {
        let [status, title, text, id, host] = self.words();
        let way = self.broken.map(way).unwrap_or_default();
        let host = if host.is_empty() { String::new() } else { format!("<span>{host}</span>") };
        format!(
            "{HEAD}<title>{title}</title>{STYLE}<main>{way}<p class=s>{status}</p><h1>{title}</h1><p>{text}</p>\
             <footer>{host}<span>Request {id}</span></footer></main>\n"
        )
    }

    /// The operator's own page: `{{status}}`, `{{title}}`, `{{text}}`, `{{host}}`, `{{code}}` and `{{request_id}}` are
    /// filled in, safe for HTML.
    #[must_use]
    pub fn fill(&self, template: &str) -> String {
        let [status, title, text, id, host] = self.words();
        let words = [
            ("status", status),
            ("title", title),
            ("text", text),
            ("host", host),
            ("code", escape(self.code)),
            ("request_id", id),
        ];
        let mut page = String::with_capacity(template.len() + 128);
        let mut rest = template;
        // Each place is looked at once, so that nothing that is filled in is filled in again.
        while let Some((before, after)) = rest.split_once("{{") {
            page.push_str(before);
            let known = after.split_once("}}").and_then(|(name, tail)| {
                Some((words.iter().find(|(known, _)| *known == name.trim())?, tail))
            });
            match known {
                Some(((_, word), tail)) => {
                    page.push_str(word);
                    rest = tail;
                }
                None => {
                    page.push_str("{{");
                    rest = after;
                }
            }
        }
        page + rest
    }

    fn words(&self) -> [Cow<'_, str>; 5] {
        let status = Cow::Borrowed(self.status.as_str());
        [status, escape(self.title), escape(self.text), escape(self.request_id), escape(self.host)]
    }
}

/// Most texts have nothing to escape.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return Cow::Borrowed(text);
    }
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").into()
}

/// The way as a picture: what is green is known to work.
fn way(broken: Hop) -> String {
    let (home, service) = match broken {
        Hop::Home => ("x", "q"),
        Hop::Service => ("k", "x"),
    };
    format!(
        "<ol aria-label=\"Where it is broken\"><li class=k>You<li class=k>Edge<li class={home}>Home<li class={service}>Service</ol>"
    )
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\"><meta name=robots content=noindex>";

const STYLE: &str = "<style>:root{color-scheme:light dark;--b:#f6f4f0;--c:#fffefc;--l:#e4dfd6;--t:#23211e;--m:#756f66;--a:#b4531f;--g:#3b8255;--x:#b4531f}\
@media(prefers-color-scheme:dark){:root{--b:#141311;--c:#1d1b19;--l:#35312c;--t:#eceae6;--m:#9a948b;--a:#e58a57;--g:#6fb488;--x:#e58a57}}\
*,:before,:after{box-sizing:border-box}body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:1.25rem;background:var(--b);color:var(--t);\
font:1.0625rem/1.6 system-ui,-apple-system,\"Segoe UI\",sans-serif}main{width:100%;max-width:34rem;padding:2.25rem 2.25rem 1.5rem;\
background:var(--c);border:1px solid var(--l);border-radius:14px}\
ol{display:flex;list-style:none;margin:0 0 2rem;padding:0;font-size:.8125rem;color:var(--m)}\
li{flex:1;position:relative;padding-top:1.35rem;text-align:center}\
li:before{content:\"\";position:absolute;top:0;left:50%;width:.8rem;height:.8rem;margin-left:-.4rem;border-radius:50%;background:var(--g)}\
li+li:after{content:\"\";position:absolute;top:.33rem;right:calc(50% + .75rem);width:calc(100% - 1.5rem);border-top:2px solid var(--g)}\
li.x{color:var(--x);font-weight:600}li.x:before{background:none;border:2px solid var(--x)}li.x:after{border-top:2px dashed var(--x)}\
li.q:before{background:var(--l)}li.q:after{border-top-color:var(--l)}\
.s{margin:0;color:var(--a);font-weight:600;font-size:.9375rem;letter-spacing:.1em}\
h1{margin:.15rem 0 .75rem;font-size:1.75rem;line-height:1.25;letter-spacing:-.01em;text-wrap:balance}p{margin:0;text-wrap:pretty}\
footer{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;justify-content:space-between;margin-top:2.25rem;padding-top:1rem;border-top:1px solid var(--l);\
color:var(--m);font-size:.75rem;overflow-wrap:anywhere}@media(max-width:30rem){main{padding:1.5rem 1.25rem 1rem}h1{font-size:1.5rem}}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page<'_> = Page {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "no_connection",
        title: "Home is away",
        text: "Try <again> \"soon\" & safely.",
        request_id: "abc",
        host: "a.example",
        broken: Some(Hop::Home),
    };

    #[test]
    fn a_page_names_its_status_and_request() {
        let html = PAGE.html();
        for part in ["503", "Request abc", "Home is away", "a.example", "&lt;again&gt;", "<li class=x>Home"] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
        let json: serde_json::Value = serde_json::from_str(&PAGE.json()).unwrap();
        assert_eq!((&json["status"], &json["error"]), (&json!(503), &json!("no_connection")));
        assert_eq!(json["message"], PAGE.text);
    }

    #[test]
    fn a_template_is_filled_in_once_and_safely() {
        let tricky = Page { host: "{{text}}", ..PAGE };
        let filled =
            tricky.fill("<b>{{status}} {{ title }}</b> {{text}} {{host}} {{unknown}} {{ {{request_id}}");
        assert_eq!(
            filled,
            "<b>503 Home is away</b> Try &lt;again&gt; &quot;soon&quot; &amp; safely. {{text}} {{unknown}} {{ abc"
        );
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
