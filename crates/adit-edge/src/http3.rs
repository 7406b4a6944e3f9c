//! One request of HTTP/3: what the library of the other protocols does by itself there, done here.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use adit_http3::{Code, Incoming, Responder};
use adit_policy::limits::H3_TAIL_WINDOW as TAIL_WINDOW;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Empty;

use crate::body::AnswerBody;
use crate::interim::Interim;
use crate::serve::serve_http3;
use crate::visitor::Visitor;

/// Reads a request and answers it, unless the visitor goes away before.
pub(crate) async fn answer(visitor: Rc<Visitor>, quic: quinn::Connection, incoming: Incoming) {
    let (request, mut responder) = match incoming.request().await {
        Ok(request) => request,
        Err(error) => return tracing::debug!(remote = %visitor.remote, %error, "no request"),
    };
    let is_head = request.method() == Method::HEAD;
    let mut gone = std::pin::pin!(responder.gone());
    let interim = if request.headers().contains_key(header::EXPECT) {
        Interim::telling_continue()
    } else {
        Interim::default()
    };
    let answering = serve_http3(visitor, request, interim.clone());
    let answer = tokio::select! {
        answer = told(answering, &interim, &mut responder) => answer,
        () = &mut gone => return,
    };
    let Ok(mut response) = answer else { return responder.reset(Code::REQUEST_REJECTED) };
    complete(&mut response, is_head);
    // Whether the visitor was still there is in the record.
    let sent = if is_head {
        responder.send(response.map(|_| Empty::<bytes::Bytes>::new())).await.is_ok()
    } else {
        responder.send(response).await.is_ok()
    };
    if sent {
        // What is under way is lost when the connection is closed, so the request counts until it has arrived, as long as
        // the visitor takes any of it.
        let is_stalled = async {
            let mut sent = sent_frames(&quic);
            loop {
                tokio::time::sleep(TAIL_WINDOW).await;
                if std::mem::replace(&mut sent, sent_frames(&quic)) == sent_frames(&quic) {
                    return;
                }
            }
        };
        tokio::select! {
            () = &mut gone => {}
            () = is_stalled => {}
        }
    }
}

/// Frames with parts of answers that the connection has sent.
fn sent_frames(quic: &quinn::Connection) -> u64 {
    quic.stats().frame_tx.stream
}

/// Waits for the answer, and sends the interim responses that come before it.
async fn told<A>(answering: impl Future<Output = A>, interim: &Interim, responder: &mut Responder) -> A {
    let mut answering = std::pin::pin!(answering);
    loop {
        let (answer, heads) = std::future::poll_fn(|cx| {
            let answer = answering.as_mut().poll(cx);
            let heads = interim.take();
            if answer.is_pending() && heads.is_empty() { Poll::Pending } else { Poll::Ready((answer, heads)) }
        })
        .await;
        for (status, headers) in heads {
            // A client that is gone is noticed by who sends the answer.
            drop(responder.interim(status, &headers).await);
        }
        if let Poll::Ready(answer) = answer {
            return answer;
        }
    }
}

/// Adds the length and the date (RFC 9110, sections 8.6 and 6.6.1).
fn complete(response: &mut Response<AnswerBody>, is_head: bool) {
    let length = response.body().size_hint().exact();
    let has_body =
        !is_head && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    if let Some(length) = length.filter(|_| has_body && !headers.contains_key(header::CONTENT_LENGTH)) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(header::DATE) {
        set_date(headers);
    }
}

thread_local! {
    /// The second that was written last, and how.
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

fn set_date(headers: &mut HeaderMap) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    DATE.with_borrow_mut(|(second, text)| {
        if *second != now {
            let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now));
            *text = HeaderValue::try_from(date).unwrap_or(HeaderValue::from_static(""));
            *second = now;
        }
        headers.insert(header::DATE, text.clone());
    });
}
