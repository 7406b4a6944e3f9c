//! From a stream's host and path to the rule that answers, with the origins that this worker keeps for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use adit_policy::host::Authority;
use adit_policy::ingress::Rule;
use adit_policy::path::{PathRefusal, RequestPath};
use adit_tunnel::connector::StreamRequest;

use crate::Connector;
use crate::balance::{InForce, Member};
use crate::origin::Origin;
use crate::rescue::Problem;

/// One worker's view of the rules: each with its origins, and each of those with its pool of connections.
pub(crate) struct Rules {
    in_force: Arc<InForce>,
    origins: Vec<Vec<Rc<Origin>>>,
}

/// The rule of a request.
pub(crate) struct Found<'r> {
    /// Its position.
    pub(crate) index: usize,
    pub(crate) rule: &'r Rule,
    origins: &'r [Rc<Origin>],
    in_force: &'r InForce,
}

impl Found<'_> {
    /// The origins in the order in which they are asked; those of several with what all workers know of them.
    pub(crate) fn candidates(&self, visitor: &[u8]) -> Vec<(Rc<Origin>, Option<Arc<Member>>)> {
        let Some(spread) = self.in_force.spread(self.index) else {
            return self.origins.iter().map(|origin| (origin.clone(), None)).collect();
        };
        let candidate = |index: usize| {
            let origin = self.origins.get(index).cloned()?;
            Some((origin, Some(spread.members.get(index)?.clone())))
        };
        spread.order(self.rule, visitor).into_iter().filter_map(candidate).collect()
    }
}

impl Rules {
    fn new(in_force: Arc<InForce>) -> Self {
        let origins = |rule: &Rule| {
            rule.services().map(|service| Rc::new(Origin::new(service, &rule.origin))).collect()
        };
        let origins = in_force.ingress.rules.iter().map(origins).collect();
        Self { in_force, origins }
    }

    /// Finds the rule of a request, and what answers for it. The host becomes what the origin gets: its normal form.
    ///
    /// # Errors
    /// [`Problem::BadHost`] and [`Problem::BadPath`] for what can be read in several ways: an edge of ours does not send it,
    /// but the edge may be anybody's. [`Problem::NoRule`] when nothing matches.
    pub(crate) fn find(&self, request: &mut StreamRequest) -> Result<Found<'_>, Problem> {
        let written = request.host.clone();
        let authority = Authority::parse(&written)?;
        let target = std::str::from_utf8(&request.target).map_err(|_| PathRefusal::Malformed)?;
        let path = RequestPath::parse(target.split_once('?').map_or(target, |(path, _)| path))?;
        let found = self.in_force.ingress.find(authority.host(), &path)?;
        let (index, rule) = found.ok_or(Problem::NoRule)?;
        if !authority.is_written(&written) {
            request.host = authority.to_string().into();
        }
        let origins = self.origins.get(index).ok_or(Problem::NoRule)?;
        Ok(Found { index, rule, origins, in_force: &self.in_force })
    }
}

/// The rules in force on one worker. Pools live as long as the rules that they belong to.
pub(crate) struct CurrentRules {
    connector: Arc<Connector>,
    rules: RefCell<Rc<Rules>>,
}

impl CurrentRules {
    pub(crate) fn new(connector: &Arc<Connector>) -> Self {
        let rules = Rc::new(Rules::new(connector.rules.load_full()));
        Self { connector: connector.clone(), rules: RefCell::new(rules) }
    }

    /// The rules for a new stream.
    pub(crate) fn get(&self) -> Rc<Rules> {
        let current = self.connector.rules.load();
        let known = Arc::ptr_eq(&self.rules.borrow().in_force, &current);
        if !known {
            *self.rules.borrow_mut() = Rc::new(Rules::new(current.clone()));
        }
        self.rules.borrow().clone()
    }
}
