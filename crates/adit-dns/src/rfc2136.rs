//! Dynamic updates (RFC 2136) signed by TSIG (RFC 8945), over TCP: an update has no second packet to lose.

use std::io;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::{DnsError, TxtRecords};

/// Time for one exchange.
const TIME: Duration = Duration::from_secs(15);
/// Seconds that both clocks may differ.
const FUDGE: u16 = 300;
/// Seconds that others may keep a proof.
const TTL: u32 = 30;
/// How often the server is asked for a new record, and the pause between two times.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// How updates are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-256.
    #[default]
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

/// A name server that takes updates.
pub struct Rfc2136 {
    server: String,
    zone: Option<Name>,
    signer: TSigner,
}

impl std::fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rfc2136").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Rfc2136 {
    /// A server at `host:port`, with a key in base64. Without a zone, the server is asked which of its zones a name
    /// belongs to.
    ///
    /// # Errors
    /// [`DnsError::Key`] and [`DnsError::Message`] for a key or a name that is none.
    pub fn new(
        server: &str,
        zone: Option<&str>,
        key_name: &str,
        key: &str,
        algorithm: Algorithm,
    ) -> Result<Self, DnsError> {
        let key = STANDARD
            .decode(key.trim())
            .map_err(|_| DnsError::Key("the TSIG key is not base64".to_owned()))?;
        let key = Zeroizing::new(key);
        let algorithm = match algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(key.to_vec(), algorithm, name(key_name)?, FUDGE);
        let signer =
            signer.map_err(|error| DnsError::Key(format!("the TSIG key cannot be used: {error}")))?;
        Ok(Self { server: server.to_owned(), zone: zone.map(name).transpose()?, signer })
    }

    async fn update(
        &self,
        owner: &str,
        change: impl Fn(RecordSet, Name) -> Message,
        value: &str,
    ) -> Result<(), DnsError> {
        let owner = name(owner)?;
        let zone = match &self.zone {
            Some(zone) if zone.zone_of(&owner) => zone.clone(),
            Some(_) => return Err(self.no_zone(&owner)),
            None => self.find_zone(&owner).await?,
        };
        let text = RData::TXT(TXT::new(vec![value.to_owned()]));
        let set = RecordSet::from(Record::from_rdata(owner.clone(), TTL, text));
        let mut message = change(set, zone);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut verifier =
            message.finalize(&self.signer, now).map_err(|error| DnsError::Message(error.to_string()))?;
        let answer = self.exchange(&message).await?;
        let read = Message::from_vec(&answer).map_err(|error| DnsError::Message(error.to_string()))?;
        if read.response_code != ResponseCode::NoError {
            let (server, name) = (self.server.clone(), owner.to_string());
            return Err(DnsError::Refused { server, name, code: read.response_code.to_string() });
        }
        // Good news must be the server's.
        match verifier.as_mut().map(|verifier| verifier.verify(&answer)) {
            Some(Err(error)) => Err(DnsError::Message(error.to_string())),
            _ => Ok(()),
        }
    }

    /// The nearest name above that has a SOA record of its own.
    async fn find_zone(&self, owner: &Name) -> Result<Name, DnsError> {
        let mut candidate = owner.clone();
        while !candidate.is_root() {
            let answer = self.ask(&candidate, RecordType::SOA).await?;
            if answer
                .answers
                .iter()
                .any(|record| record.record_type() == RecordType::SOA && record.name == candidate)
            {
                return Ok(candidate);
            }
            candidate = candidate.base_name();
        }
        Err(self.no_zone(owner))
    }

    fn no_zone(&self, owner: &Name) -> DnsError {
        DnsError::NoZone { server: self.server.clone(), name: owner.to_string() }
    }

    async fn is_there(&self, owner: &Name, value: &str) -> Result<bool, DnsError> {
        let answer = self.ask(owner, RecordType::TXT).await?;
        Ok(answer
            .answers
            .iter()
            .any(|record| matches!(&record.data, RData::TXT(text) if text.to_string() == value)))
    }

    async fn ask(&self, owner: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let mut message = Message::query();
        message.add_query(Query::query(owner.clone(), kind));
        let answer = self.exchange(&message).await?;
        Message::from_vec(&answer).map_err(|error| DnsError::Message(error.to_string()))
    }

    async fn exchange(&self, message: &Message) -> Result<Vec<u8>, DnsError> {
        let failed = |source| DnsError::Server { server: self.server.clone(), source };
        let bytes = message.to_vec().map_err(|error| DnsError::Message(error.to_string()))?;
        let exchange = async {
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            let mut stream = TcpStream::connect(&self.server).await?;
            stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let timed_out = || Err(io::Error::from(io::ErrorKind::TimedOut));
        timeout(TIME, exchange).await.unwrap_or_else(|_| timed_out()).map_err(failed)
    }
}

fn name(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text).map_err(|error| DnsError::Message(format!("`{text}`: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

impl TxtRecords for Rfc2136 {
    fn add<'a>(&'a self, owner: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(async move {
            self.update(owner, |set, zone| append(set, zone, false, false), value).await?;
            let full = name(owner)?;
            for _ in 0..LOOKS {
                if self.is_there(&full, value).await? {
                    return Ok(());
                }
                sleep(PAUSE).await;
            }
            Err(DnsError::NotThere { server: self.server.clone(), name: owner.to_owned() })
        })
    }

    fn remove<'a>(&'a self, owner: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(self.update(owner, |set, zone| delete_by_rdata(set, zone, false), value))
    }
}
