//! The built-in origin (`hello_world`): a page to see that the way works, and a few answers to test it with.

use std::time::Duration;

use adit_tunnel::connector::{Chunk, RequestBody, StreamRequest};
use adit_wire::connect::StreamKind;
use adit_wire::fields::Fields;
use bytes::Bytes;

use crate::rescue::Problem;
use crate::serve::Answer;

/// Pause between the events of `/sse`, unless `freq` says otherwise (cloudflared: `hello/hello.go`).
const EVENT_PAUSE: Duration = Duration::from_secs(10);

/// Answers a request.
pub(crate) async fn answer(
    request: &StreamRequest,
    body: RequestBody,
    answer: &mut Answer,
) -> Result<(), Problem> {
    if request.kind != StreamKind::Http {
        return Err(Problem::Unsupported("hello_world".to_owned()));
    }
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match path {
        b"/_health" | b"/healthz" => text(answer, 200, "text/plain", "ok\n".to_owned()).await,
        b"/echo" => echo(request, body, answer).await,
        b"/sse" => events(request, answer).await,
        _ => text(answer, 200, "text/html; charset=utf-8", page(request)).await,
    }
}

async fn text(answer: &mut Answer, status: u16, kind: &str, body: String) -> Result<(), Problem> {
    let length = body.len().to_string();
    let fields = [("Content-Type", kind), ("Content-Length", &length), ("Cache-Control", "no-store")];
    let fields = Fields::from_texts(&fields);
    answer.begin(status)?.head(status, &fields, body.into(), true).await?;
    Ok(())
}

/// Sends back what comes, as it comes.
async fn echo(request: &StreamRequest, mut body: RequestBody, answer: &mut Answer) -> Result<(), Problem> {
    let kind = request.fields.get("content-type").unwrap_or(b"application/octet-stream");
    let fields = Fields::from_pairs([(&b"Content-Type"[..], kind)].into_iter());
    let mut reply = answer.begin(200)?.head(200, &fields, Bytes::new(), false).await?;
    while let Some(chunk) = body.next().await {
        if let Chunk::Data(data) = chunk? {
            reply.data(data).await?;
        }
    }
    Ok(reply.finish().await?)
}

/// Counts for ever, until nobody listens.
async fn events(request: &StreamRequest, answer: &mut Answer) -> Result<(), Problem> {
    let fields = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")];
    let fields = Fields::from_texts(&fields);
    let pause = std::str::from_utf8(&request.target).ok().and_then(asked_pause).unwrap_or(EVENT_PAUSE);
    let mut reply = answer.begin(200)?.head(200, &fields, Bytes::new(), false).await?;
    for number in 0_u64.. {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = reply.cancelled() => return Err(Problem::Cancelled),
        }
        reply.data(format!("data: {number}\n\n").into()).await?;
    }
    Ok(())
}

/// `freq` of the query: `1s` or `500ms`.
fn asked_pause(target: &str) -> Option<Duration> {
    let (_, query) = target.split_once('?')?;
    let freq = query.split('&').find_map(|pair| pair.strip_prefix("freq="))?;
    let (digits, unit) = match freq.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (freq.strip_suffix('s')?, 1000),
    };
    let millis = digits.parse::<u32>().ok()?.checked_mul(unit).filter(|millis| *millis > 0)?;
    Some(Duration::from_millis(millis.into()))
}

fn page(request: &StreamRequest) -> String {
    let mut rows = String::new();
    for (name, value) in request.fields.iter() {
        let (name, value) = (escape(name), escape(value));
        rows += &format!("<tr><th>{name}<td>{value}\n");
    }
    let (method, host, target) = (escape(&request.method), escape(&request.host), escape(&request.target));
    format!(
        "{HEAD}<h1>It works.</h1><p>This page was asked for at <b>{host}</b>, went through the edge and the tunnel, and was answered by the connector's built-in origin.</p><p><code>{method} {target}</code></p><table>{rows}</table></main>\n"
    )
}

/// Text of a visitor inside of HTML.
fn escape(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width,initial-scale=1\"><title>Hello from Adit</title>\
<style>:root{color-scheme:light dark;--b:#fbfaf8;--t:#23211e;--m:#7a756d;--a:#c2622d;--l:#e6e2db}\
@media(prefers-color-scheme:dark){:root{--b:#191816;--t:#eceae6;--m:#97928a;--a:#e58a57;--l:#35322e}}\
body{margin:0;background:var(--b);color:var(--t);font:1.05rem/1.6 system-ui,sans-serif}\
main{max-width:44rem;margin:12vh auto;padding:0 1.5rem}h1{color:var(--a);font-size:2.4rem;line-height:1.1;margin:0 0 1rem}\
table{border-collapse:collapse;width:100%;font-size:.85rem;margin-top:2rem}th{text-align:left;font-weight:500;\
color:var(--m);white-space:nowrap}th,td{padding:.35rem 1rem .35rem 0;border-top:1px solid var(--l);\
vertical-align:top;overflow-wrap:anywhere}code{font-size:.95rem}</style><main>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_s_text_is_escaped() {
        assert_eq!(escape(b"<script>&"), "&lt;script&gt;&amp;");
    }
}
