//! Certificates that come by themselves for names whose TLS ends at this connector (`tlsCertificate: acme`). They are proven
//! through the passthrough itself: the edge never has a key.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use adit_config::connector::ConnectorFile;
use adit_connector::Connector;
use adit_connector::given::ByName;
use adit_control::renewal::{Door, Renewal, Settings, Shown};
use adit_policy::host::{HostPattern, Hostname};

use crate::failure::Failure;

/// Starts to ask for them, where that is configured.
///
/// # Errors
/// When rules want certificates and nothing says from whom, or the folder cannot be made.
pub(super) fn start(
    file: &ConnectorFile,
    connector: &Arc<Connector>,
) -> Result<Option<Arc<OnceLock<Renewal>>>, Failure> {
    let names = connector.rules.load().ingress.names_for_acme();
    let Some(acme) = file.acme.clone() else {
        return match names.first() {
            Some(name) => Err(Failure::input(format!(
                "{name} has `tlsCertificate: acme`, and there is no `acme`; for example `acme: {{ email: me@home.example }}`"
            ))),
            None => Ok(None),
        };
    };
    // Only a wildcard of an edge is shared between names, so the domain does not matter here.
    let domain = Hostname::parse("localhost").map_err(Failure::broke)?;
    let data = file.data_dir.as_deref().unwrap_or_else(|| Path::new("data"));
    let renewal = Arc::new(OnceLock::new());
    let door = Arc::new(HomeDoor { connector: Arc::downgrade(connector), renewal: Arc::downgrade(&renewal) });
    let started = Renewal::start(data, Settings { acme, domain, covered: Vec::new() }, door.clone());
    renewal.set(started.map_err(Failure::input)?).unwrap_or_default();
    door.install();
    Ok(Some(renewal))
}

/// What the renewal sees of the connector.
struct HomeDoor {
    connector: Weak<Connector>,
    renewal: Weak<OnceLock<Renewal>>,
}

impl Door for HomeDoor {
    fn names(&self) -> Vec<HostPattern> {
        let connector = self.connector.upgrade();
        connector.map(|connector| connector.rules.load().ingress.names_for_acme()).unwrap_or_default()
    }

    fn show(&self, shown: Shown) {
        if let Some(given) = self.connector.upgrade().as_ref().and_then(|connector| connector.given.as_ref())
        {
            given.set_proofs(shown.certificates);
        }
    }

    fn install(&self) {
        let Some(renewal) = self.renewal.upgrade() else { return };
        let loaded = renewal.get().map(Renewal::loaded).unwrap_or_default();
        let pairs = loaded.into_iter().flat_map(|loaded| {
            let key = loaded.key;
            loaded.names.into_iter().map(move |name| (name.to_string(), key.clone()))
        });
        let table: ByName = pairs.collect();
        if let Some(given) = self.connector.upgrade().as_ref().and_then(|connector| connector.given.as_ref())
        {
            given.set_certificates(table);
        }
    }

    fn ordered(&self, _: &str, _: bool) {}
}
