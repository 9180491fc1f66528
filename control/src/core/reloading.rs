//! Changing a running router: reload, confirm, and the way back.
//!
//! A reload reads the configuration file and everything that it names again. Where any of it is wrong, or anything differs
//! that a running router cannot take over, nothing is changed. What is changed first is what can fail (the metrics'
//! address, the admin socket's file, the routes); where it does, it is put back. A reload that has to be confirmed is
//! undone when its time is up. The file itself is never written: a restart reads what stands there.
//!
//! Programs that run keep the terms that they were admitted by until they end; new uploads are judged by the new
//! policies. Capacity may be lowered below what is promised: nothing is taken from anybody, and nobody gets more until
//! enough has come back.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vinet_fastpath::port::PortHandle;
use vinet_session::Now;
use vinet_trusted::policy::Policy;

use super::{Core, CoreError};
use crate::admin::{Command, Peer, ReloadOrder};
use crate::config::{Config, ConfigError};
use crate::daemon::{self, StartupError};
use crate::log;
use crate::metrics::Metrics;
use crate::plane::PlaneError;
use crate::policies::{Policies, PoliciesError};
use crate::reload::{Change, Keys};

/// The time between two attempts to undo a reload.
const UNDO_RETRY: Duration = Duration::from_secs(5);

/// What is in force beside the configuration, and what comes back where nobody confirms.
pub(super) struct Reloading {
    /// The keys in force, those of the policies included.
    keys: Keys,
    policies: Vec<Policy>,
    pending: Option<Pending>,
}

/// A reload that waits for its confirmation.
struct Pending {
    config: Config,
    policies: Vec<Policy>,
    keys: Keys,
    deadline: Instant,
}

impl Reloading {
    pub(super) fn new(config: &Config, policies: Vec<Policy>) -> Reloading {
        let keys = keys(config, &policies);
        Reloading { keys, policies, pending: None }
    }
}

fn keys(config: &Config, policies: &[Policy]) -> Keys {
    let mut keys = config.keys.clone();
    keys.add_policies(policies);
    keys
}

/// Why a reload changed nothing. The operator is at fault.
#[derive(Debug)]
pub(super) enum ReloadError {
    /// Another waits for its confirmation.
    Pending {
        /// Seconds until it is undone.
        left_s: u64,
    },
    /// There is nothing to confirm or to undo.
    NothingPending,
    /// The configuration file.
    Config(ConfigError),
    /// The policies.
    Policies(PoliciesError),
    /// A port's packets are longer than a policy has priced programs for.
    Mtu(StartupError),
    /// Some of what differs cannot be changed in a running router.
    NeedsRestart(Vec<Change>),
    /// The metrics' address cannot be had.
    Metrics {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The admin socket's file cannot be changed.
    Admin(std::io::Error),
    /// The kernel does not take the routes.
    Routes(PlaneError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Pending { left_s } => write!(
                f,
                "a reload waits for its confirmation and is undone in {left_s} s: `vinetd ctl confirm` or `vinetd ctl \
                 rollback` first"
            ),
            ReloadError::NothingPending => f.write_str("no reload waits for a confirmation"),
            ReloadError::Config(error) => write!(f, "{error}"),
            ReloadError::Policies(error) => write!(f, "{error}"),
            ReloadError::Mtu(error) => write!(f, "{error}"),
            ReloadError::NeedsRestart(changes) => {
                f.write_str("these cannot be changed in a running router: ")?;
                for (place, change) in changes.iter().enumerate() {
                    write!(f, "{}{}", if place > 0 { ", " } else { "" }, change.key)?;
                }
                f.write_str("; take them back, or restart the router")
            }
            ReloadError::Metrics { address, reason } => write!(f, "[metrics] listen: {address}: {reason}"),
            ReloadError::Admin(reason) => write!(f, "[control] admin_mode, admin_group: {reason}"),
            ReloadError::Routes(error) => write!(f, "[[route]]: {error}"),
        }
    }
}

impl<H: PortHandle> Core<H> {
    /// Answers a command that changes the router.
    pub(super) fn change(&mut self, command: &Command, peer: &Peer, now: Now) -> Value {
        let instant = Instant::now();
        log::info("admin", format_args!("{peer} asks for {}", command.to_json()));
        let outcome = match command {
            Command::Reload(order) => self.reload(*order, instant).map_err(|error| error.to_string()),
            Command::Confirm => self.confirm().map_err(|error| error.to_string()),
            Command::Rollback => self.roll_back(instant).map_err(|error| error.to_string()),
            Command::LetBack(source) => self.let_back((*source).into(), now),
            other => unreachable!("{} changes nothing", other.name()),
        };
        outcome.unwrap_or_else(|error| {
            log::warn("core", format_args!("{} changed nothing: {error}", command.name()));
            json!({ "error": error })
        })
    }

    /// Reloads at once and for good, as a signal asks for it; what is wrong is only in the log.
    pub(super) fn reload_on_signal(&mut self, instant: Instant) {
        log::info("core", "SIGHUP: the configuration is read again");
        if let Err(error) = self.reload(ReloadOrder::default(), instant) {
            log::warn("core", format_args!("reload changed nothing: {error}"));
        }
    }

    /// Seconds until the reload that waits for its confirmation is undone.
    pub(super) fn reload_undone_in_s(&self, instant: Instant) -> Option<u64> {
        let pending = self.reloading.pending.as_ref()?;
        Some(pending.deadline.saturating_duration_since(instant).as_secs())
    }

    /// Undoes a reload whose time is up. From a tick.
    pub(super) fn undo_overdue_reload(&mut self, instant: Instant) {
        if self.reloading.pending.as_ref().is_some_and(|pending| pending.deadline <= instant) {
            log::warn("core", "nobody confirmed the reload in time: it is undone");
            if let Err(error) = self.undo(instant) {
                log::error("core", format_args!("the reload cannot be undone yet, and is tried again: {error}"));
            }
        }
    }

    fn reload(&mut self, order: ReloadOrder, instant: Instant) -> Result<Value, ReloadError> {
        if let Some(left_s) = self.reload_undone_in_s(instant) {
            return Err(ReloadError::Pending { left_s });
        }
        let config = Config::load(&self.config.file).map_err(ReloadError::Config)?;
        config.check_machine().map_err(ReloadError::Config)?;
        let policies = Policies::read(&config.router.policies).map_err(ReloadError::Policies)?;
        daemon::check_mtus(&config, &policies).map_err(ReloadError::Mtu)?;
        let keys = keys(&config, &policies);
        let changes = self.reloading.keys.diff(&keys);
        if order.dry_run || changes.is_empty() {
            return Ok(json!({ "changes": changes, "applied": false, "undone_in_s": null }));
        }
        let refused: Vec<Change> = changes.iter().filter(|change| !change.at_run_time).cloned().collect();
        if !refused.is_empty() {
            return Err(ReloadError::NeedsRestart(refused));
        }
        let before = Pending {
            config: self.config.clone(),
            policies: self.reloading.policies.clone(),
            keys: self.reloading.keys.clone(),
            deadline: instant + Duration::from_secs(order.confirm_within_s.unwrap_or(0).into()),
        };
        self.notifier.reloading();
        let taken = self.take_over(config, policies, keys);
        self.notifier.ready(if taken.is_ok() { "reloaded" } else { "a reload failed and changed nothing" });
        taken?;
        for change in &changes {
            log::info("core", format_args!("reload: {change}"));
        }
        self.reloading.pending = order.confirm_within_s.map(|_| before);
        Ok(json!({ "changes": changes, "applied": true, "undone_in_s": order.confirm_within_s }))
    }

    fn confirm(&mut self) -> Result<Value, ReloadError> {
        self.reloading.pending.take().ok_or(ReloadError::NothingPending)?;
        log::info("core", "the reload is confirmed");
        Ok(json!({ "confirmed": true }))
    }

    fn roll_back(&mut self, instant: Instant) -> Result<Value, ReloadError> {
        let changes = match &self.reloading.pending {
            Some(pending) => self.reloading.keys.diff(&pending.keys),
            None => return Err(ReloadError::NothingPending),
        };
        self.undo(instant)?;
        log::info("core", "the reload is undone");
        Ok(json!({ "changes": changes, "applied": true, "undone_in_s": null }))
    }

    fn undo(&mut self, instant: Instant) -> Result<(), ReloadError> {
        let Some(mut pending) = self.reloading.pending.take() else { return Ok(()) };
        let (config, policies, keys) = (pending.config.clone(), pending.policies.clone(), pending.keys.clone());
        self.take_over(config, policies, keys).inspect_err(|_| {
            pending.deadline = instant + UNDO_RETRY;
            self.reloading.pending = Some(pending);
        })
    }

    /// Puts another configuration in force, all of it or nothing.
    fn take_over(&mut self, config: Config, policies: Vec<Policy>, keys: Keys) -> Result<(), ReloadError> {
        let metrics = match config.metrics == self.config.metrics {
            true => None,
            false => Some(config.metrics.listen.map(|address| self.listen_for_metrics(address)).transpose()?),
        };
        let (access, access_before) = (&config.control.admin_access, &self.config.control.admin_access);
        if access != access_before {
            self.admin.set_access(access).map_err(ReloadError::Admin)?;
        }
        if config.routes != self.config.routes
            && let Some(plane) = &mut self.plane
            && let Err(error) = plane.set_routes(&config)
        {
            // What of them the kernel took is replaced by those before, which it had taken once.
            let routes = plane.set_routes(&self.config).map_err(|error| error.to_string());
            let access = match access == access_before {
                true => Ok(()),
                false => self.admin.set_access(access_before).map_err(|error| error.to_string()),
            };
            for reason in [routes, access].into_iter().filter_map(Result::err) {
                log::error("core", format_args!("what a failed reload had changed cannot be put back: {reason}"));
            }
            return Err(ReloadError::Routes(error));
        }
        // From here on nothing can fail.
        if let Some(metrics) = metrics {
            self.metrics = metrics;
        }
        let limits = config.control.limits;
        daemon::allow_sessions(limits.sessions);
        self.server.set_limits(limits);
        self.office.admission.set_limits(&limits);
        self.office.admission.set_capacity(config.capacity.cycles_per_second, config.capacity.memory_bytes);
        self.office.admission.sources_mut().set_limits(config.sources.quotas, config.sources.shut_off);
        self.office.admission.set_policies(policies.clone(), config.payment.tariff);
        if config.control.log_format != self.config.control.log_format {
            log::set_form(config.control.log_format);
        }
        self.config = config;
        self.reloading.policies = policies;
        self.reloading.keys = keys;
        Ok(())
    }

    fn listen_for_metrics(&self, address: SocketAddr) -> Result<Metrics, ReloadError> {
        self.start_metrics(address).map_err(|error| match error {
            CoreError::Metrics { address, reason } => ReloadError::Metrics { address, reason },
            other => ReloadError::Metrics { address, reason: std::io::Error::other(other.to_string()) },
        })
    }
}
