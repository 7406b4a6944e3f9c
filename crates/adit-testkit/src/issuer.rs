//! An issuer of tokens: OpenID Connect Discovery, its keys, and tokens made to order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    /// Its URL, which stands in its tokens.
    pub url: String,
    key: KeyPair,
    published: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Issuer {
    /// Starts one with one key, `first`.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let published = Arc::new(Mutex::new(vec![jwk(&key, "first")]));
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (keys, count) = (published.clone(), asked.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serve(listener, address, keys, count) => {}
                _ = stopped => {}
            }
        });
        Self { url: format!("http://{address}"), key, published, asked, _stop: stop }
    }

    /// A token with these claims, on top of a good one for `audience`.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn token(&self, audience: &str, claims: &Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut all =
            json!({ "iss": self.url, "aud": [audience], "sub": "somebody", "iat": now, "exp": now + 600 });
        for (name, value) in claims.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let header = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, &all, &key).unwrap()
    }

    /// A token signed with a key that it does not publish, under the name of one that it does.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn forged(&self, audience: &str) -> String {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let stranger = Self {
            url: self.url.clone(),
            key,
            published: Arc::default(),
            asked: Arc::default(),
            _stop: tokio::sync::oneshot::channel().0,
        };
        stranger.token(audience, &json!({}))
    }

    /// How often its keys were asked for.
    #[must_use]
    pub fn was_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Publishes no key any more.
    ///
    /// # Panics
    /// Never in practice.
    pub fn withdraw(&self) {
        self.published.lock().unwrap().clear();
    }
}

fn jwk(key: &KeyPair, id: &str) -> Value {
    // An uncompressed point: 4, x, y.
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": text(x), "y": text(y) })
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap_or_default();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let body = match request.split_whitespace().nth(1) {
            Some("/.well-known/openid-configuration") => {
                json!({ "jwks_uri": format!("http://{address}/keys") })
            }
            Some("/keys") => {
                asked.fetch_add(1, Ordering::SeqCst);
                json!({ "keys": keys.lock().unwrap().clone() })
            }
            _ => json!({}),
        };
        let (body, length) = (body.to_string(), body.to_string().len());
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        // A client that left needs no keys.
        drop(stream.write_all(answer.as_bytes()).await);
    }
}
