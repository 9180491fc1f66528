//! What the names of a program stand for: variables of one kind each, groupings with their results, and the types that
//! use gives them.

use super::ast::{
    AddrTerm, Address, Addrs, Clauses, Cond, CondKind, Expr, ExprKind, Invariant, Order, Stmt, StmtKind, Test, Value,
    Var,
};
use super::error::{Cause, Kind, Located};
use super::token::Span;
use std::collections::BTreeMap;
use vinet_trusted::packet::Field;

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
    /// Variables without an index, with the kind and the place of the first assignment.
    vars: BTreeMap<String, (Kind, Span)>,
    /// Groupings by index.
    groupings: BTreeMap<String, Grouping>,
    /// The other names that a foreach gives to an index, each with that index.
    aliases: BTreeMap<String, String>,
}

/// How variables are used, in the order of the text; those without an index only where that says something of what
/// they are copied from.
type Uses = BTreeMap<(String, Option<String>), Vec<(Role, Span)>>;

/// What an assignment says of the kind of its target.
enum Assigned<'a> {
    Kind(Kind),
    CopyOf(&'a Var),
}

/// What the walk over the statements collects.
#[derive(Default)]
struct Walk<'a> {
    uses: Uses,
    assigned: Vec<(&'a Var, Assigned<'a>)>,
    errors: Vec<Located>,
}

impl Names {
    /// The names of a program; offences go to `errors`. `is_integer` says of a parameter whether its value is one.
    pub(crate) fn of(body: &[Stmt], is_integer: &dyn Fn(&str) -> bool, errors: &mut Vec<Located>) -> Names {
        let mut names = Names::default();
        let mut walk = Walk::default();
        names.block(body, &mut walk);
        let Walk { uses, assigned, errors: found } = walk;
        errors.extend(found);
        let mut uses = names.without_aliases(uses);
        names.share_uses(&assigned, &mut uses);
        names.infer(&uses, errors);
        names.kinds(&assigned, is_integer, errors);
        for (name, (_, span)) in &names.vars {
            if let Some(grouping) = names.grouping_of(name) {
                let error = Located::new(span.clone(), Cause::PlainAndIndexed { name: name.clone() });
                errors.push(error.with(grouping.span.clone(), "with an index here"));
            }
        }
        names
    }

    /// Whether a statement defines `name`, or the language does.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.kind(name).is_some() || self.grouping_of(name).is_some()
    }

    /// What a name without an index stands for, where the program defines it so.
    pub(crate) fn kind(&self, name: &str) -> Option<Kind> {
        if name == ALL { Some(Kind::Packets) } else { self.vars.get(name).map(|&(kind, _)| kind) }
    }

    /// Where a variable without an index is assigned first.
    pub(crate) fn made(&self, name: &str) -> Option<&Span> {
        self.vars.get(name).map(|(_, span)| span)
    }

    /// A grouping that has `name` as a result.
    pub(crate) fn grouping_of(&self, name: &str) -> Option<&Grouping> {
        self.groupings.values().find(|grouping| grouping.results.iter().any(|(result, _)| result == name))
    }

    /// The index of the grouping that `index` belongs to.
    pub(crate) fn index_of<'a>(&'a self, index: &'a str) -> &'a str {
        self.aliases.get(index).map_or(index, String::as_str)
    }

    /// The grouping that an index belongs to.
    pub(crate) fn grouping(&self, index: &str) -> Option<&Grouping> {
        self.groupings.get(self.index_of(index))
    }

    /// Every index.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = &str> {
        self.groupings.keys().chain(self.aliases.keys()).map(String::as_str)
    }

    /// The variables without an index that are of a kind.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let all = (kind == Kind::Packets).then_some(ALL);
        self.vars.iter().filter(move |&(_, &(known, _))| known == kind).map(|(name, _)| name.as_str()).chain(all)
    }

    /// Every variable without an index.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.vars.keys().map(String::as_str).chain([ALL])
    }

    fn block<'a>(&mut self, block: &'a [Stmt], walk: &mut Walk<'a>) {
        for stmt in block {
            self.stmt(stmt, walk);
        }
    }

    fn stmt<'a>(&mut self, stmt: &'a Stmt, walk: &mut Walk<'a>) {
        match &stmt.kind {
            StmtKind::Assign { targets, value } => {
                walk.value(value);
                match value {
                    Value::Group { field, addrs: None, .. } => {
                        self.partition(targets, *field, &stmt.span, &mut walk.errors);
                    }
                    Value::Content { .. } => walk.content(targets),
                    Value::Group { .. } if targets.len() > 1 => {
                        walk.errors.push(Located::new(targets[1].span.clone(), Cause::PairWithoutIndex));
                    }
                    Value::Group { .. } if targets[0].index.is_some() => {
                        let index = targets[0].index.clone().unwrap_or_default();
                        let cause = Cause::IndexWithAddress { name: targets[0].name.clone(), index };
                        walk.errors.push(Located::new(targets[0].span.clone(), cause));
                    }
                    Value::Group { .. } | Value::Select { .. } | Value::Union { .. } | Value::Minus { .. } => {
                        walk.single(targets, Assigned::Kind(Kind::Packets));
                    }
                    Value::Offset { .. } => walk.single(targets, Assigned::Kind(Kind::Addr)),
                    Value::Address((AddrTerm::Name(var), _)) | Value::Expr(Expr { kind: ExprKind::Var(var), .. }) => {
                        walk.single(targets, Assigned::CopyOf(var));
                    }
                    Value::Address(_) => walk.single(targets, Assigned::Kind(Kind::Addr)),
                    Value::Expr(_) => walk.single(targets, Assigned::Kind(Kind::Int)),
                }
            }
            StmtKind::Discard { arg } => walk.note(arg, Role::Packets),
            StmtKind::Generate { src, dst, .. } => [src, dst].into_iter().for_each(|address| walk.address(address)),
            StmtKind::If { cond, then, otherwise } => {
                walk.cond(cond);
                self.stmt(then, walk);
                if let Some(otherwise) = otherwise {
                    self.stmt(otherwise, walk);
                }
            }
            StmtKind::Foreach { index: (index, _), alias, clauses, body } => {
                if let Some((alias, span)) = alias {
                    self.alias(alias, index, span, &mut walk.errors);
                }
                walk.clauses(clauses);
                self.stmt(body, walk);
            }
            StmtKind::While { cond, clauses, body } => {
                walk.cond(cond);
                walk.clauses(clauses);
                self.stmt(body, walk);
            }
            StmtKind::Block(body) => self.block(body, walk),
        }
    }

    fn alias(&mut self, alias: &str, index: &str, span: &Span, errors: &mut Vec<Located>) {
        let known = self.aliases.entry(alias.to_string()).or_insert_with(|| index.to_string());
        if known != index || self.groupings.contains_key(alias) {
            errors.push(Located::new(span.clone(), Cause::IndexTaken { index: alias.to_string() }));
        }
    }

    /// The uses, with the index of the grouping in place of its other names.
    fn without_aliases(&mut self, uses: Uses) -> Uses {
        let groupings = &self.groupings;
        // A grouping of the same name wins; its statement is told of.
        self.aliases.retain(|alias, _| !groupings.contains_key(alias));
        let mut all = Uses::new();
        for ((name, index), places) in uses {
            let index = index.map(|index| self.index_of(&index).to_string());
            all.entry((name, index)).or_default().extend(places);
        }
        for places in all.values_mut() {
            places.sort_by_key(|(_, span)| span.start);
        }
        all
    }

    /// Gives what has no use of its own, and is copied, the use of its copy.
    fn share_uses(&self, assigned: &[(&Var, Assigned<'_>)], uses: &mut Uses) {
        let key = |var: &Var| (var.name.clone(), var.index.as_ref().map(|index| self.index_of(index).to_string()));
        for _ in assigned {
            let mut changed = false;
            for (target, from) in assigned {
                let Assigned::CopyOf(from) = from else { continue };
                if let Some(&(role, _)) = uses.get(&key(target)).and_then(|places| places.first())
                    && let std::collections::btree_map::Entry::Vacant(entry) = uses.entry(key(from))
                {
                    entry.insert(vec![(role, from.span.clone())]);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// Gives each variable the kind of its first assignment.
    fn kinds(
        &mut self,
        assigned: &[(&Var, Assigned<'_>)],
        is_integer: &dyn Fn(&str) -> bool,
        errors: &mut Vec<Located>,
    ) {
        // A copy of what is only assigned later is of a known kind in a later round.
        for round in 0..=assigned.len() {
            let before = self.vars.len();
            for (target, from) in assigned {
                let kind = match from {
                    Assigned::Kind(kind) => *kind,
                    Assigned::CopyOf(var) if var.index.is_some() => match self.role(var) {
                        Some(Role::Key) => Kind::Addr,
                        _ => Kind::Packets,
                    },
                    Assigned::CopyOf(var) => match self.kind(&var.name) {
                        Some(kind) => kind,
                        None if assigned.iter().any(|(other, _)| other.name == var.name) => continue,
                        None if is_integer(&var.name) => Kind::Int,
                        None => Kind::Addr,
                    },
                };
                self.vars.entry(target.name.clone()).or_insert_with(|| (kind, target.span.clone()));
            }
            if self.vars.len() == before && round > 0 {
                break;
            }
        }
        for (target, from) in assigned {
            let kind = match from {
                Assigned::Kind(kind) => Some(*kind),
                Assigned::CopyOf(var) if var.index.is_none() => self.kind(&var.name),
                Assigned::CopyOf(_) => None,
            };
            // Copies in a circle, of which nothing else is assigned, are told where they are read.
            let (first, span) =
                self.vars.entry(target.name.clone()).or_insert_with(|| (Kind::Packets, target.span.clone()));
            if let Some(second) = kind
                && second != *first
            {
                let cause = Cause::KindChanged { name: target.name.clone(), first: *first, second };
                errors.push(Located::new(target.span.clone(), cause).with(span.clone(), "first assigned here"));
            }
        }
    }

    /// What an indexed variable is, where its grouping has it as a result.
    pub(crate) fn role(&self, var: &Var) -> Option<Role> {
        let grouping = self.grouping(var.index.as_deref()?)?;
        grouping.results.iter().find(|(name, _)| *name == var.name).map(|&(_, role)| role)
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
        if self.aliases.contains_key(index) {
            errors.push(Located::new(targets[0].span.clone(), Cause::IndexTaken { index: index.clone() }));
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
                let used = uses.get(&(name.clone(), Some(index.clone()))).map_or(&[][..], Vec::as_slice);
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

impl<'a> Walk<'a> {
    /// The target of an assignment that has one, without an index.
    fn single(&mut self, targets: &'a [Var], assigned: Assigned<'a>) {
        let [target] = targets else {
            self.errors.push(Located::new(targets[1].span.clone(), Cause::OneResult));
            return;
        };
        if target.index.is_some() {
            self.errors.push(Located::new(target.span.clone(), Cause::ResultIndexed { var: target.text() }));
        } else if target.name == ALL {
            self.errors.push(Located::new(target.span.clone(), Cause::AllPacketsAssigned));
        } else {
            self.assigned.push((target, assigned));
        }
    }

    /// The targets of a GROUP_BY_CONTENT.
    fn content(&mut self, targets: &'a [Var]) {
        let [dests, contents] = targets else {
            self.errors.push(Located::new(targets[0].span.clone(), Cause::ContentResults));
            return;
        };
        if dests.name == contents.name {
            let cause = Cause::SameResultTwice { name: dests.name.clone() };
            self.errors.push(Located::new(contents.span.clone(), cause));
            return;
        }
        for (target, kind) in [(dests, Kind::Dests), (contents, Kind::Contents)] {
            self.single(std::slice::from_ref(target), Assigned::Kind(kind));
        }
    }

    fn note(&mut self, var: &Var, role: Role) {
        self.uses.entry((var.name.clone(), var.index.clone())).or_default().push((role, var.span.clone()));
    }

    fn address(&mut self, (term, _): &Address) {
        if let AddrTerm::Name(var) = term {
            self.note(var, Role::Key);
        }
    }

    fn addrs(&mut self, addrs: &Addrs) {
        addrs.terms.iter().for_each(|term| self.address(term));
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Group { arg, addrs, .. } => {
                self.note(arg, Role::Packets);
                if let Some(addrs) = addrs {
                    self.addrs(addrs);
                }
            }
            Value::Content { arg } => self.note(arg, Role::Packets),
            Value::Select { arg, test } => {
                self.note(arg, Role::Packets);
                self.test(test);
            }
            Value::Union { a, b } | Value::Minus { a, b } => {
                [a, b].iter().for_each(|var| self.note(var, Role::Packets))
            }
            Value::Offset { base, by } => {
                self.address(base);
                self.expr(by);
            }
            // A copy is used as what its target is used as.
            Value::Address(_) | Value::Expr(Expr { kind: ExprKind::Var(_), .. }) => {}
            Value::Expr(expr) => self.expr(expr),
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            // No result of a grouping is an integer, so there is nothing to learn of one here.
            ExprKind::Number(_) | ExprKind::Var(_) => {}
            ExprKind::Size(arg) | ExprKind::Count { arg, .. } | ExprKind::Score { arg, .. } => {
                self.note(arg, Role::Packets);
            }
            ExprKind::Join { a, b, .. } => {
                self.expr(a);
                self.expr(b);
            }
        }
    }

    fn test(&mut self, test: &Test) {
        match test {
            Test::Constant(_) | Test::Owns(_) | Test::Among { .. } | Test::Compare { .. } => {}
            Test::Member { addrs, .. } => self.addrs(addrs),
            Test::Not(inner) => self.test(inner),
            Test::All(parts) | Test::Any(parts) => parts.iter().for_each(|part| self.test(part)),
        }
    }

    fn cond(&mut self, cond: &Cond) {
        match &cond.kind {
            CondKind::Contains { arg, .. } | CondKind::Empty { arg } => self.note(arg, Role::Packets),
            CondKind::Member { addr, addrs, .. } => {
                self.note(addr, Role::Key);
                self.addrs(addrs);
            }
            CondKind::Is { addr, other, .. } => {
                self.note(addr, Role::Key);
                self.address(other);
            }
            CondKind::Compare { a, order, b } => {
                // A result of a grouping that is compared is its address, and so is what it is compared with.
                let sides = [a, b].map(|side| if let ExprKind::Var(var) = &side.kind { Some(var) } else { None });
                if let [Some(a), Some(b)] = sides
                    && matches!(order, Order::Equal | Order::NotEqual)
                    && (a.index.is_some() || b.index.is_some())
                {
                    self.note(a, Role::Key);
                    self.note(b, Role::Key);
                } else {
                    self.expr(a);
                    self.expr(b);
                }
            }
            CondKind::Not(inner) => self.cond(inner),
            CondKind::All(parts) | CondKind::Any(parts) => parts.iter().for_each(|part| self.cond(part)),
        }
    }

    fn clauses(&mut self, clauses: &Clauses) {
        if let Some(variant) = &clauses.variant {
            self.expr(variant);
        }
        for invariant in &clauses.invariants {
            match invariant {
                Invariant::Cond(cond) => self.cond(cond),
                Invariant::Within { arg, addrs, .. } => {
                    self.note(arg, Role::Packets);
                    self.addrs(addrs);
                }
            }
        }
    }
}
