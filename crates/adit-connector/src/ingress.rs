//! From a stream's host and path to the rule that answers, with the origins that this worker keeps for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::ingress::Ingress;
use adit_tunnel::connector::StreamRequest;

use crate::Connector;
use crate::origin::Origin;
use crate::rescue::Problem;

/// One worker's view of the rules: each with its pool of connections.
pub(crate) struct Rules {
    ingress: Arc<Ingress>,
    origins: Vec<Rc<Origin>>,
}

impl Rules {
    fn new(ingress: Arc<Ingress>) -> Self {
        let origins =
            ingress.rules.iter().map(|rule| Rc::new(Origin::new(&rule.service, &rule.origin))).collect();
        Self { ingress, origins }
    }

    /// The rule of a request, and what answers for it.
    ///
    /// # Errors
    /// [`Problem::Malformed`] for text that is none, [`Problem::NoRule`] when nothing matches.
    pub(crate) fn find(&self, request: &StreamRequest) -> Result<(usize, Rc<Origin>), Problem> {
        let text =
            |bytes| std::str::from_utf8(bytes).map_err(|_| Problem::Malformed("host or path is no text"));
        let (host, target) = (text(&request.host)?, text(&request.target)?);
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let (index, _) = self.ingress.find(without_port(host), path).ok_or(Problem::NoRule)?;
        let origin = self.origins.get(index).cloned().ok_or(Problem::NoRule)?;
        Ok((index, origin))
    }
}

/// The rules in force on one worker. Pools live as long as the rules that they belong to.
pub(crate) struct CurrentRules {
    connector: Arc<Connector>,
    rules: RefCell<Rc<Rules>>,
}

impl CurrentRules {
    pub(crate) fn new(connector: &Arc<Connector>) -> Self {
        let rules = Rc::new(Rules::new(connector.ingress.load_full()));
        Self { connector: connector.clone(), rules: RefCell::new(rules) }
    }

    /// The rules for a new stream.
    pub(crate) fn get(&self) -> Rc<Rules> {
        let current = self.connector.ingress.load();
        let known = Arc::ptr_eq(&self.rules.borrow().ingress, &current);
        if !known {
            *self.rules.borrow_mut() = Rc::new(Rules::new(current.clone()));
        }
        self.rules.borrow().clone()
    }
}

/// cloudflared matches hosts without their port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}
