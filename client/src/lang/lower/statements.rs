//! The lowering of statements: each to its instructions and their places.
//!
//! A statement with an error gives fewer instructions; lowering goes on, so that every error is told.

use super::select::within;
use super::{Held, Lowering, Running};
use crate::lang::ast::{self, AddrTerm, ExprKind, Stmt, StmtKind, Value, Var};
use crate::lang::error::{Cause, Kind, Located, nearest};
use crate::lang::token::Span;
use vinet_trusted::program::{Expr, Instr, Slot};

impl Lowering<'_, '_> {
    pub(super) fn block(&mut self, block: &[Stmt], out: &mut Vec<Instr>) {
        for stmt in block {
            self.scratch = 0;
            self.stmt(stmt, out);
        }
    }

    fn inner(&mut self, stmt: &Stmt) -> Vec<Instr> {
        let mut out = Vec::new();
        self.block(std::slice::from_ref(stmt), &mut out);
        out
    }

    /// Adds the instructions of a statement; fewer where it has an error, which is told.
    fn stmt(&mut self, stmt: &Stmt, out: &mut Vec<Instr>) {
        match &stmt.kind {
            StmtKind::Assign { targets, value } => self.assignment(targets, value, &stmt.span, out),
            StmtKind::Discard { arg } => {
                let arg = self.packets(arg);
                self.push(out, &stmt.span, arg.map(|arg| Instr::Discard { arg }));
            }
            StmtKind::Generate { src, dst, data } => {
                let (src, dst, data) = (self.address(src), self.address(dst), self.data(data));
                let instr = || Some(Instr::Generate { src: src?, dst: dst?, data: data? });
                self.push(out, &stmt.span, instr());
            }
            StmtKind::If { cond, then, otherwise } => {
                let cond = self.cond(cond, out);
                self.places.push(stmt.span.clone());
                let before = self.assigned.clone();
                let then = self.inner(then);
                let after_then = std::mem::replace(&mut self.assigned, before);
                self.assigned.resize(after_then.len(), false);
                let otherwise = otherwise.as_ref().map_or_else(Vec::new, |block| self.inner(block));
                for (slot, assigned) in self.assigned.iter_mut().enumerate() {
                    *assigned &= after_then.get(slot).copied().unwrap_or(false);
                }
                out.extend(cond.map(|cond| Instr::If { cond, then, otherwise }));
            }
            StmtKind::Foreach { index: (index, span), alias, clauses, body } => {
                let groups = self.groups(index, span);
                let (running, span) = alias.as_ref().map_or((index, span), |(alias, span)| (alias, span));
                if self.running.iter().any(|around| around.index == *running) {
                    self.error(span, Cause::IndexRunning { index: running.clone() });
                }
                self.hint(clauses);
                self.places.push(stmt.span.clone());
                let before = self.assigned.clone();
                let (packets, key) = (self.new_slot(span), self.new_slot(span));
                self.running.push(Running { index: running.clone(), packets, key });
                let body = self.inner(body);
                self.running.pop();
                // The body may run no time at all.
                self.restore(before);
                out.extend(groups.map(|groups| Instr::Foreach { groups, packets, key, body }));
            }
            StmtKind::While { cond, clauses, body } => {
                let outer = self.in_clause.replace("the condition of a while");
                let cond = self.cond(cond, out);
                self.in_clause = outer;
                let max = self.bound(clauses);
                self.hint(clauses);
                self.places.push(stmt.span.clone());
                let before = self.assigned.clone();
                let body = self.inner(body);
                self.restore(before);
                if let (Some(cond), Some(max)) = (cond, max) {
                    out.push(Instr::While { cond, max, body });
                }
            }
            StmtKind::Block(inner) => self.block(inner, out),
        }
    }

    /// Adds an instruction and its place, where it has no error.
    pub(super) fn push(&mut self, out: &mut Vec<Instr>, span: &Span, instr: Option<Instr>) {
        if let Some(instr) = instr {
            self.places.push(span.clone());
            out.push(instr);
        }
    }

    /// The slot of the one target of an assignment; `None` where it is of a wrong form, which was told when the names
    /// were collected.
    fn target(&mut self, targets: &[Var]) -> Option<Slot> {
        let [target] = targets else { return None };
        if target.index.is_some() || self.names.made(&target.name).is_none() {
            return None;
        }
        Some(self.assign(Held::Var(target.name.clone()), &target.span))
    }

    fn assignment(&mut self, targets: &[Var], value: &Value, span: &Span, out: &mut Vec<Instr>) {
        // Arguments come before the target: it may be one of them.
        let instr = match value {
            Value::Group { field, arg, addrs: Some(addrs) } => {
                let arg = self.packets(arg);
                let set = self.addrs(addrs);
                let out = self.target(targets);
                let select = || Some(Instr::Select { out: out?, arg: arg?, test: within(*field, &set?) });
                select()
            }
            Value::Group { field, arg, addrs: None } => {
                let arg = self.packets(arg);
                let out = self.partition_target(targets);
                let partition = || Some(Instr::Partition { out: out?, arg: arg?, field: *field });
                partition()
            }
            Value::Content { arg } => {
                let arg = self.packets(arg);
                let [dests, contents] = [0, 1].map(|i| targets.get(i..=i).and_then(|target| self.target(target)));
                let content = || Some(Instr::Content { dests: dests?, contents: contents?, arg: arg? });
                content()
            }
            Value::Select { arg, test } => {
                let arg = self.packets(arg);
                let test = self.test(test);
                let out = self.target(targets);
                let select = || Some(Instr::Select { out: out?, arg: arg?, test: test? });
                select()
            }
            Value::Union { a, b } | Value::Minus { a, b } => {
                let (a, b) = (self.packets(a), self.packets(b));
                let out = self.target(targets);
                let union = matches!(value, Value::Union { .. });
                let joined = || {
                    let (out, a, b) = (out?, a?, b?);
                    Some(if union { Instr::Union { out, a, b } } else { Instr::Minus { out, a, b } })
                };
                joined()
            }
            Value::Offset { base, by } => {
                let base = self.address(base);
                let by = self.expr(by, out);
                let out = self.target(targets);
                let offset = || Some(Instr::Offset { out: out?, base: base?, by: by? });
                offset()
            }
            Value::Address(address) => {
                let base = self.address(address);
                let out = self.target(targets);
                let copy = || Some(Instr::Offset { out: out?, base: base?, by: Expr::Const { value: 0 } });
                copy()
            }
            Value::Expr(expr) => self.computed(targets, expr, span, out),
        };
        self.push(out, span, instr);
    }

    /// An assignment of an integer, or a copy of a variable.
    fn computed(&mut self, targets: &[Var], expr: &ast::Expr, span: &Span, out: &mut Vec<Instr>) -> Option<Instr> {
        match &expr.kind {
            ExprKind::Size(arg) => {
                let arg = self.packets(arg);
                let out = self.target(targets)?;
                Some(Instr::Size { out, arg: arg? })
            }
            ExprKind::Count { arg, word } => {
                let (arg, word) = (self.packets(arg), self.word(word));
                let out = self.target(targets)?;
                Some(Instr::Count { out, arg: arg?, word: word? })
            }
            ExprKind::Var(var) => self.copy(targets, var),
            ExprKind::Score { arg, weights } => {
                let count = self.scratch(span);
                let sum = self.target(targets)?;
                self.score(sum, count, arg, weights, span, out);
                None
            }
            _ => {
                let expr = self.expr(expr, out);
                let out = self.target(targets)?;
                Some(Instr::Let { out, expr: expr? })
            }
        }
    }

    fn copy(&mut self, targets: &[Var], var: &Var) -> Option<Instr> {
        let kind = match self.kind(var) {
            Some(kind) => kind,
            // A parameter; what it is was seen when the names were collected.
            None => self.names.kind(&targets.first()?.name)?,
        };
        match kind {
            Kind::Packets => {
                let packets = self.packets(var);
                let out = self.target(targets)?;
                Some(Instr::Union { out, a: packets?, b: packets? })
            }
            Kind::Int => {
                let expr = self.integer(var);
                let out = self.target(targets)?;
                Some(Instr::Let { out, expr: expr? })
            }
            Kind::Addr => {
                let base = self.address(&(AddrTerm::Name(var.clone()), var.span.clone()));
                let out = self.target(targets)?;
                Some(Instr::Offset { out, base: base?, by: Expr::Const { value: 0 } })
            }
            Kind::Dests | Kind::Contents => {
                self.error(&var.span, Cause::NotCopied { var: var.text() });
                None
            }
        }
    }

    fn partition_target(&mut self, targets: &[Var]) -> Option<Slot> {
        let target = targets.first()?;
        let index = target.index.as_ref()?;
        // An index that belongs to something else was told when the names were collected.
        if self.names.index_of(index) != index || self.names.grouping(index).is_none() {
            return None;
        }
        if self.running.iter().any(|running| running.index == *index) {
            self.error(&target.span, Cause::IndexRunning { index: index.clone() });
        }
        Some(self.assign(Held::Groups(index.clone()), &target.span))
    }

    fn groups(&mut self, index: &str, span: &Span) -> Option<Slot> {
        let grouping = self.names.grouping(index).filter(|_| self.names.index_of(index) == index);
        let Some(grouping) = grouping else {
            let nearest = nearest(index, self.names.indexes());
            self.error(span, Cause::UnknownIndex { index: index.to_string(), nearest });
            return None;
        };
        let slot = self.read(&Held::Groups(index.to_string()));
        if slot.is_none() {
            let cause = Cause::NotAssignedYet { var: format!("the grouping with index {index}") };
            self.errors.push(Located::new(span.clone(), cause).with(grouping.span.clone(), "assigned here"));
        }
        slot
    }
}
