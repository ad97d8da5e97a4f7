//! Where clients are sent: hold them, point them to a side, let them go on.

mod command;
mod haproxy;
mod none;
mod patience;
mod pgbouncer;
mod program;
mod replaceable_file;

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use haproxy::HaProxyUndo;
pub use pgbouncer::PgBouncerUndo;

use crate::config::{self, RouterKind};
use crate::error::{Checked, Error, Result};
use crate::phase::Side;
use crate::plan::Plan;

/// What one router does with clients now.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RouterState {
    /// Which router.
    pub name: String,
    /// Clients wait.
    pub held: bool,
    /// New clients are refused.
    pub disabled: bool,
    /// Clients are not served through it: it does not run, as far as can be told, or has no server to send them to.
    pub down: bool,
    /// Where clients are sent; None when that is neither side, not the same everywhere, or unknown.
    pub side: Option<Side>,
    /// Where it sends them at this moment, whatever it may do after a reload.
    #[serde(skip)]
    pub live: Option<Side>,
    /// What a person should know about it.
    pub detail: Option<String>,
    /// What mends that, where the switch that led there does not when it is run again.
    #[serde(skip)]
    pub mend: Option<String>,
}

/// What a router needs in order to send clients home, stored in the record before it acts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "router", rename_all = "lowercase")]
pub enum RouterUndo {
    /// The entry as it was.
    PgBouncer(PgBouncerUndo),
    /// The weights as they were.
    HaProxy(HaProxyUndo),
}

/// How the console of a process is reached that shares its port with others.
pub struct SharedPort {
    /// Where.
    pub address: String,
    /// No other process answers there.
    pub is_own: bool,
}

/// A way through a router to where general traffic goes, which is not moved with it.
pub struct OtherWay {
    /// The database that clients name; `*` for those without an entry.
    pub name: String,
    /// The role that it makes of all clients.
    pub forced: Option<String>,
    /// Roles whose clients have taken it since the router was started.
    pub users: Vec<String>,
}

/// Fails once the run is to end: asked again and again while a router waits for clients.
pub type Heed<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// One router. Every method may be called again without effect when its work is done already,
/// and a dry run notes what would change instead of doing it.
pub trait Router: Send {
    /// `pgbouncer 10.0.0.5:6432`: for messages.
    fn name(&self) -> &str;

    /// Whose clients it moves: no two are to move the same.
    fn moves(&self) -> String {
        self.name().to_owned()
    }

    /// Another one has the same name: takes one that tells of the database or the map, too.
    fn tell_apart(&mut self) {}

    /// Whether it moves clients, or somebody else has to.
    fn moves_clients(&self) -> bool {
        true
    }

    /// Every precondition of the methods below, for a hold of at most `budget`; changes nothing.
    fn check(&mut self, budget: Duration) -> Checked;

    /// How it is reached, where other processes share its port.
    fn shared_port(&mut self) -> Option<SharedPort> {
        None
    }

    /// Roles that it logs in with itself, and not for a client, on the target too.
    fn login_roles(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The role that it makes of all clients, with the side on which it does.
    fn forced_roles(&mut self) -> Result<Vec<(Side, String)>> {
        Ok(Vec::new())
    }

    /// Roles whose clients it can hold only once they disconnect.
    fn unheld_roles(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Ways to where it sends clients now that [`Router::point_to`] does not move.
    fn other_ways(&mut self) -> Result<Vec<OtherWay>> {
        Ok(Vec::new())
    }

    /// What the way home needs; to be stored before any other method acts.
    fn prepare(&mut self) -> Result<Option<RouterUndo>>;

    /// Does ahead what [`Router::point_to`] would have to do for `side` while clients wait; moves nobody.
    fn make_ready(&mut self, _side: Side) -> Result<()> {
        Ok(())
    }

    /// Proves, with clients served where they are, that what [`Router::point_to`] changes has an effect; leaves nothing of it.
    fn prove(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes back what a proof has left that was cut short; true when there was something.
    fn take_back_proof(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Makes clients wait: returns when none has a transaction open. Past `deadline`, or once `heed` fails, clients go on
    /// where they were; past the deadline the error names who was busy.
    fn hold(&mut self, deadline: Instant, heed: &Heed) -> Result<()>;

    /// Sends clients to `side` from their next transaction on, proven by what the router then says of itself.
    fn point_to(&mut self, side: Side) -> Result<()>;

    /// Lets clients go on.
    fn resume(&mut self) -> Result<()>;

    /// Once clients go on, takes back what was for the time of the hold alone; that a run before has died in it is no matter.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Clients go on where they cannot be served yet: has it try to connect for them, often enough that none waits for long once they
    /// can, until [`Router::settle`].
    fn try_on(&mut self) -> Result<()> {
        Ok(())
    }

    /// Has every connection to the server renewed once its transaction ends, since plans and types may have changed; at the
    /// latest as clients go on.
    fn reconnect(&mut self) -> Result<()>;

    /// What it does with clients now.
    fn state(&mut self) -> Result<RouterState>;

    /// Whether clients cannot reach it either, when asking it what it does has failed so.
    fn is_down(&self, _error: &Error) -> bool {
        false
    }

    /// Asks it something, whatever it does with clients now, for the time that an answer takes; nothing where none comes fast.
    fn answer(&mut self) -> Result<()> {
        Ok(())
    }

    /// Number of clients connected through it.
    fn clients(&mut self) -> Result<u64>;

    /// Local port of each of its connections to servers; none when it cannot tell.
    fn server_ports(&mut self) -> Result<Option<Vec<i32>>> {
        Ok(None)
    }
}

/// For how long clients of a router that leads to the right side wait for the other routers.
const TOGETHER: Duration = Duration::from_millis(100);

/// Name of the check that a router answers at all.
pub const REACHABLE: &str = "router_reachable";

/// All routers that the traffic goes through: held all of them or none, and moved as one.
pub struct Routers {
    list: Vec<Box<dyn Router>>,
    plan: Plan,
    /// Those that the latest [`Routers::point_to`] did not lead on.
    left_behind: Vec<String>,
}

impl Routers {
    /// The routers of `[router]`, with the networks of admin traffic. `stored` is what [`Routers::prepare`] gave at
    /// the beginning of this detour, empty before it. `application_name` is what a console shows of us.
    pub fn new(
        router: &config::Router,
        admin_networks: &[String],
        stored: &[RouterUndo],
        plan: &Plan,
        application_name: &str,
    ) -> Result<Routers> {
        let mut list: Vec<Box<dyn Router>> = Vec::new();
        match router.kind {
            RouterKind::Pgbouncer => {
                for one in pgbouncer::PgBouncer::all(&router.pgbouncer, stored, plan, application_name)? {
                    list.push(Box::new(one));
                }
            }
            RouterKind::Haproxy => {
                for settings in &router.haproxy {
                    list.push(Box::new(haproxy::HaProxy::new(settings, admin_networks, stored, plan)));
                }
            }
            RouterKind::Command => {
                let settings = router.command.as_ref().ok_or_else(|| Error::Usage {
                    message: "router.kind is \"command\", but no program is given".into(),
                    hint: "Write [router.command] program = [\"…\"].".into(),
                })?;
                list.push(Box::new(command::Command::new(settings, plan)));
            }
            RouterKind::None => list.push(Box::new(none::NoRouter::new(plan, router.clients_choose))),
        }
        for (at, one) in list.iter().enumerate() {
            if list[..at].iter().any(|other| other.moves() == one.moves()) {
                return Err(Error::Usage {
                    message: format!("two [[router.{}]] are for {}", router.kind.name(), one.moves()),
                    hint: "Remove one of them, or correct where it leads: of processes that share a port, each is reached by its own Unix socket.".into(),
                });
            }
        }
        let names: Vec<String> = list.iter().map(|one| one.name().to_owned()).collect();
        for (at, one) in list.iter_mut().enumerate() {
            if names.iter().enumerate().any(|(other, name)| other != at && *name == names[at]) {
                one.tell_apart();
            }
        }
        Ok(Routers { list, plan: plan.clone(), left_behind: Vec::new() })
    }

    /// Whether clients are moved by us, or somebody has to be told.
    pub fn moves_clients(&self) -> bool {
        self.list.iter().all(|router| router.moves_clients())
    }

    /// Every precondition on every router.
    pub fn check(&mut self, budget: Duration) -> Checked {
        let mut checked = Checked::default();
        self.list.iter_mut().for_each(|router| checked.append(router.check(budget)));
        self.check_ports(&mut checked);
        checked
    }

    /// Processes that share a port have to be moved one by one.
    fn check_ports(&mut self, checked: &mut Checked) {
        let shared = self.list.iter_mut().filter_map(|router| {
            let port = router.shared_port()?;
            Some((router.name().to_owned(), port))
        });
        let shared: Vec<(String, SharedPort)> = shared.collect();
        let hint = "Write one [[router.pgbouncer]] for every process, with its own Unix socket in \"admin\".";
        for (name, port) in &shared {
            let is_same = |(_, other): &&(String, SharedPort)| other.address == port.address;
            if !port.is_own && shared.iter().filter(is_same).count() > 1 {
                let message = "so_reuseport is on, and several entries name this address: a connection may reach any process";
                checked.fail("router_so_reuseport", name, message, hint);
            } else if !port.is_own || shared.len() == 1 {
                let message = "so_reuseport is on: other processes share its port, and each has to be moved";
                checked.warn("router_so_reuseport", name, message, hint);
            }
        }
    }

    /// Roles that routers log in with themselves, each once.
    pub fn login_roles(&mut self) -> Result<Vec<String>> {
        let mut roles = Vec::new();
        for router in &mut self.list {
            roles.extend(router.login_roles()?);
        }
        roles.sort();
        roles.dedup();
        Ok(roles)
    }

    /// Roles that routers make of all clients: whose word it is, on which side, and the role.
    pub fn forced_roles(&mut self) -> Result<Vec<(String, Side, String)>> {
        let mut all = Vec::new();
        for router in &mut self.list {
            let forced = router.forced_roles()?;
            all.extend(forced.into_iter().map(|(side, role)| (router.name().to_owned(), side, role)));
        }
        Ok(all)
    }

    /// Roles whose clients cannot be held, each with the router that cannot.
    pub fn unheld_roles(&mut self) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for router in &mut self.list {
            let unheld = router.unheld_roles()?;
            all.extend(unheld.into_iter().map(|role| (router.name().to_owned(), role)));
        }
        Ok(all)
    }

    /// Ways that are not moved, each with the router.
    pub fn other_ways(&mut self) -> Result<Vec<(String, OtherWay)>> {
        let mut all = Vec::new();
        for router in &mut self.list {
            let ways = router.other_ways()?;
            all.extend(ways.into_iter().map(|way| (router.name().to_owned(), way)));
        }
        Ok(all)
    }

    /// What the way home needs, of every router; to be stored before anything below acts.
    pub fn prepare(&mut self) -> Result<Vec<RouterUndo>> {
        let undo: Vec<Option<RouterUndo>> =
            self.list.iter_mut().map(|router| router.prepare()).collect::<Result<_>>()?;
        Ok(undo.into_iter().flatten().collect())
    }

    /// Does ahead what can be done before clients are held, for sending them to `side`.
    pub fn make_ready(&mut self, side: Side) -> Result<()> {
        self.list.iter_mut().try_for_each(|router| router.make_ready(side))
    }

    /// Proves of one router after the other, since several may share a file, that it can be led elsewhere.
    pub fn prove(&mut self) -> Result<()> {
        self.list.iter_mut().try_for_each(|router| router.prove())
    }

    /// Takes back, at all of them, what a proof has left; true when there was something. The first failure.
    pub fn take_back_proof(&mut self) -> Result<bool> {
        let taken: Vec<Result<bool>> = self.list.iter_mut().map(|router| router.take_back_proof()).collect();
        taken.into_iter().try_fold(false, |any, one| Ok(one? || any))
    }

    /// Holds clients on all routers at once. When one fails, clients go on at all of them.
    pub fn hold(&mut self, deadline: Instant, heed: &Heed) -> Result<()> {
        match self.each(|router| router.hold(deadline, heed)) {
            Ok(()) => Ok(()),
            Err(error) => Err(taken_back(error, self.resume())),
        }
    }

    /// Sends clients to `side`, at all routers at once. That is decided by then, and nothing leads back: clients of those that
    /// lead there wait for one that fails or hangs no longer than [`TOGETHER`]. The first failure, in the routers' order.
    pub fn point_to(&mut self, side: Side) -> Result<()> {
        let (all, is_dry) = (self.list.len(), self.plan.is_dry());
        let (arrived, one_arrives) = (Mutex::new(0), Condvar::new());
        let left_behind = Mutex::new(Vec::new());
        let pointed = self.each(|router| {
            if let Err(error) = router.point_to(side) {
                left_behind.lock().unwrap_or_else(PoisonError::into_inner).push(router.name().to_owned());
                return Err(error);
            }
            let mut count = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            one_arrives.notify_all();
            let waited = one_arrives.wait_timeout_while(count, TOGETHER, |count| *count < all && !is_dry);
            if waited.is_ok_and(|(_, waited)| waited.timed_out()) {
                // What fails here is done again with those that did not get so far.
                let renewed = if side == Side::Source { router.reconnect() } else { Ok(()) };
                drop(renewed.and_then(|()| router.resume()));
            }
            Ok(())
        });
        self.left_behind = left_behind.into_inner().unwrap_or_else(PoisonError::into_inner);
        pointed
    }

    /// The routers whose clients the latest [`Routers::point_to`] has left waiting, and those whose clients have gone on.
    pub fn split(&self) -> (Vec<String>, Vec<String>) {
        let names = self.list.iter().map(|router| router.name().to_owned());
        names.partition(|name| self.left_behind.contains(name))
    }

    /// Lets clients go on at every router, also when one of them fails.
    pub fn resume(&mut self) -> Result<()> {
        self.each(|router| router.resume())
    }

    /// Has all of them try to connect for clients that cannot be served yet, as [`Router::try_on`].
    pub fn try_on(&mut self) -> Result<()> {
        self.each(|router| router.try_on())
    }

    /// Takes back, at every router, what was for the time of the hold alone.
    pub fn settle(&mut self) -> Result<()> {
        self.each(|router| router.settle())
    }

    /// Has every connection to the servers renewed.
    pub fn reconnect(&mut self) -> Result<()> {
        self.each(|router| router.reconnect())
    }

    /// Does `work` with every router at the same time, in a dry run one after the other; also when one fails. The first failure,
    /// in their order.
    fn each(&mut self, work: impl Fn(&mut dyn Router) -> Result<()> + Sync) -> Result<()> {
        let [first, rest @ ..] = &mut *self.list else { return Ok(()) };
        if self.plan.is_dry() {
            return self.list.iter_mut().try_for_each(|router| work(&mut **router));
        }
        let outcomes: Vec<Result<()>> = thread::scope(|scope| {
            let work = &work;
            let others: Vec<_> =
                rest.iter_mut().map(|router| scope.spawn(move || work(&mut **router))).collect();
            let mut outcomes = vec![work(&mut **first)];
            let died = |_| Err(Error::Internal { message: "a router's thread panicked".into() });
            outcomes.extend(others.into_iter().map(|other| other.join().unwrap_or_else(died)));
            outcomes
        });
        outcomes.into_iter().collect()
    }

    /// What every router does with clients now; one that cannot be asked says so in its detail.
    pub fn states(&mut self) -> Vec<RouterState> {
        self.ask_states().into_iter().map(|state| state.unwrap_or_else(|unasked| unasked)).collect()
    }

    /// The same, with one that cannot be asked as an error.
    pub fn ask_states(&mut self) -> Vec<Result<RouterState, RouterState>> {
        let states = self.list.iter_mut().map(|router| {
            router.state().map_err(|error| RouterState {
                name: router.name().to_owned(),
                down: router.is_down(&error),
                detail: Some(error.with_cause()),
                mend: error.hint(),
                ..RouterState::default()
            })
        });
        states.collect()
    }

    /// Local port of each connection to a server, when all of them can tell.
    pub fn server_ports(&mut self) -> Result<Option<Vec<i32>>> {
        let ports: Option<Vec<Vec<i32>>> =
            self.list.iter_mut().map(|router| router.server_ports()).collect::<Result<_>>()?;
        Ok(ports.map(|ports| ports.concat()))
    }

    /// Asks all of them something, for the time that an answer takes.
    pub fn answer(&mut self) -> Result<()> {
        self.each(|router| router.answer())
    }

    /// Number of clients connected through all of them.
    pub fn clients(&mut self) -> Result<u64> {
        self.list.iter_mut().map(|router| router.clients()).sum()
    }
}

/// Fails unless a router that does this sends clients to `side`.
fn require_side(state: RouterState, side: Side) -> Result<()> {
    if state.side == Some(side) {
        return Ok(());
    }
    let now = match (state.side, state.detail) {
        (_, Some(detail)) => detail,
        (Some(now), None) => format!("it points to the {now}"),
        (None, None) => "it does not say where it points".into(),
    };
    Err(Error::Router {
        action: format!("point {} to the {side}", state.name),
        message: now,
        hint: "Correct the router's configuration, then run the same command again.".into(),
    })
}

/// The failure, and what went wrong when its effects were taken back.
fn taken_back(error: Error, outcome: Result<()>) -> Error {
    let Err(second) = outcome else { return error };
    Error::Router {
        action: "take the routers back".into(),
        message: format!("{}, after this failure: {}", second.with_cause(), error.with_cause()),
        hint: "Clients may still be held. Run the same command again; it takes back what is left.".into(),
    }
}
