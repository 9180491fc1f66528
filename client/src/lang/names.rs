//! What the names of a program stand for: sets, groupings with their results, and the types that use gives them.

use super::ast::{AddrTerm, Addrs, Cond, CondKind, Stmt, StmtKind, Var};
use super::error::{Cause, Located};
use super::token::Span;
use std::collections::BTreeMap;
use vinet_trusted::program::Field;

/// The set that every program starts from.
pub(crate) const ALL: &str = "AllPackets";

/// What a result of a grouping is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Packets,
    Key,
}

/// One grouping: all assignments with one index.
#[derive(Debug)]
pub(crate) struct Grouping {
    pub(crate) field: Field,
    /// The names of its results, with what each is.
    pub(crate) results: Vec<(String, Role)>,
    /// Where it is made first.
    pub(crate) span: Span,
}

/// The names that the statements define.
#[derive(Default, Debug)]
pub(crate) struct Names {
    /// Sets, with the place of the first assignment.
    pub(crate) sets: BTreeMap<String, Span>,
    /// Groupings by index.
    pub(crate) groupings: BTreeMap<String, Grouping>,
}

/// How a variable with an index is used, in the order of the text.
type Uses = BTreeMap<(String, String), Vec<(Role, Span)>>;

impl Names {
    /// The names of a program; offences go to `errors`.
    pub(crate) fn of(body: &[Stmt], errors: &mut Vec<Located>) -> Names {
        let mut names = Names::default();
        let mut uses = Uses::new();
        names.block(body, &mut uses, errors);
        names.infer(&uses, errors);
        for (name, span) in &names.sets {
            if let Some(grouping) = names.grouping_of(name) {
                let error = Located::new(span.clone(), Cause::PlainAndIndexed { name: name.clone() });
                errors.push(error.with(grouping.span.clone(), "with an index here"));
            }
        }
        names
    }

    /// Whether a statement defines `name`, or the language does.
    pub(crate) fn defines(&self, name: &str) -> bool {
        name == ALL || self.sets.contains_key(name) || self.grouping_of(name).is_some()
    }

    /// A grouping that has `name` as a result.
    pub(crate) fn grouping_of(&self, name: &str) -> Option<&Grouping> {
        self.groupings.values().find(|grouping| grouping.results.iter().any(|(result, _)| result == name))
    }

    /// Every name that stands for a set of packets without an index.
    pub(crate) fn set_names(&self) -> impl Iterator<Item = &str> {
        self.sets.keys().map(String::as_str).chain([ALL])
    }

    fn block(&mut self, block: &[Stmt], uses: &mut Uses, errors: &mut Vec<Located>) {
        for stmt in block {
            match &stmt.kind {
                StmtKind::Group { targets, field, arg, addrs } => {
                    note(arg, Role::Packets, uses);
                    if let Some(addrs) = addrs {
                        note_addrs(addrs, uses);
                    }
                    match addrs {
                        Some(_) => self.selection(targets, errors),
                        None => self.partition(targets, *field, &stmt.span, errors),
                    }
                }
                StmtKind::Discard { arg } => note(arg, Role::Packets, uses),
                StmtKind::If { cond, then, otherwise } => {
                    note_cond(cond, uses);
                    self.block(std::slice::from_ref(then), uses, errors);
                    if let Some(otherwise) = otherwise {
                        self.block(std::slice::from_ref(otherwise), uses, errors);
                    }
                }
                StmtKind::Foreach { body, .. } => self.block(std::slice::from_ref(body), uses, errors),
                StmtKind::Block(body) => self.block(body, uses, errors),
            }
        }
    }

    fn selection(&mut self, targets: &[Var], errors: &mut Vec<Located>) {
        let [target] = targets else {
            errors.push(Located::new(targets[1].span.clone(), Cause::PairWithoutIndex));
            return;
        };
        if let Some(index) = &target.index {
            let cause = Cause::IndexWithAddress { name: target.name.clone(), index: index.clone() };
            errors.push(Located::new(target.span.clone(), cause));
        } else if target.name == ALL {
            errors.push(Located::new(target.span.clone(), Cause::AllPacketsAssigned));
        } else {
            self.sets.entry(target.name.clone()).or_insert(target.span.clone());
        }
    }

    fn partition(&mut self, targets: &[Var], field: Field, span: &Span, errors: &mut Vec<Located>) {
        let mut index: Option<&String> = None;
        for target in targets {
            let cause = match (&target.index, index) {
                _ if target.name == ALL => Cause::AllPacketsAssigned,
                (None, _) => Cause::IndexMissing { name: target.name.clone() },
                (Some(second), Some(first)) if second != first => {
                    Cause::IndexesDiffer { first: first.clone(), second: second.clone() }
                }
                (Some(own), _) => {
                    index = Some(own);
                    continue;
                }
            };
            errors.push(Located::new(target.span.clone(), cause));
            return;
        }
        let Some(index) = index else { return };
        if let Some(third) = targets.get(2) {
            errors.push(Located::new(third.span.clone(), Cause::TooManyResults));
            return;
        }
        if let [first, second] = targets
            && first.name == second.name
        {
            errors.push(Located::new(second.span.clone(), Cause::SameResultTwice { name: second.name.clone() }));
            return;
        }
        if let Some(made) = self.groupings.get(index) {
            let again = made.results.len() == targets.len()
                && targets.iter().all(|target| made.results.iter().any(|(name, _)| *name == target.name));
            if made.field != field || !again {
                let error = Located::new(targets[0].span.clone(), Cause::IndexTaken { index: index.clone() });
                errors.push(error.with(made.span.clone(), "it belongs to this grouping"));
            }
            return;
        }
        // The roles are inferred once every use is known.
        let results = targets.iter().map(|target| (target.name.clone(), Role::Packets)).collect();
        self.groupings.insert(index.clone(), Grouping { field, results, span: span.clone() });
    }

    /// Gives each result the role that its uses ask for; the other result of a pair has the other role.
    fn infer(&mut self, uses: &Uses, errors: &mut Vec<Located>) {
        for (index, grouping) in &mut self.groupings {
            let mut roles = Vec::new();
            for (name, _) in &grouping.results {
                let used = uses.get(&(name.clone(), index.clone())).map_or(&[][..], Vec::as_slice);
                if let Some((_, span)) = used.iter().find(|(role, _)| *role != used[0].0) {
                    let error = Located::new(span.clone(), Cause::BothKinds { var: format!("{name}({index})") });
                    errors.push(error.with(used[0].1.clone(), "used as the other here"));
                }
                roles.push(used.first().cloned());
            }
            if let [Some((first, _)), Some((second, span))] = &roles[..]
                && first == second
            {
                let [first_name, second_name] = [0, 1].map(|i| format!("{}({index})", grouping.results[i].0));
                let cause = match first {
                    Role::Key => Cause::BothKeys { first: first_name, second: second_name },
                    Role::Packets => Cause::BothPackets { first: first_name, second: second_name },
                };
                errors.push(Located::new(span.clone(), cause).with(grouping.span.clone(), "the grouping"));
            }
            let other = |role: Role| if role == Role::Key { Role::Packets } else { Role::Key };
            let role = |i: usize| roles.get(i).cloned().flatten().map(|(role, _)| role);
            let first = role(0).or_else(|| role(1).map(other)).unwrap_or(Role::Packets);
            grouping.results[0].1 = first;
            if let Some(second) = grouping.results.get_mut(1) {
                second.1 = other(first);
            }
        }
    }
}

fn note(var: &Var, role: Role, uses: &mut Uses) {
    if let Some(index) = &var.index {
        uses.entry((var.name.clone(), index.clone())).or_default().push((role, var.span.clone()));
    }
}

fn note_addrs(addrs: &Addrs, uses: &mut Uses) {
    for (term, _) in &addrs.terms {
        if let AddrTerm::Name(var) = term {
            note(var, Role::Key, uses);
        }
    }
}

fn note_cond(cond: &Cond, uses: &mut Uses) {
    match &cond.kind {
        CondKind::Contains { arg, .. } => note(arg, Role::Packets, uses),
        CondKind::Compare { key, addrs, .. } => {
            note(key, Role::Key, uses);
            note_addrs(addrs, uses);
        }
        CondKind::Not(inner) => note_cond(inner, uses),
        CondKind::All(parts) | CondKind::Any(parts) => parts.iter().for_each(|part| note_cond(part, uses)),
    }
}
