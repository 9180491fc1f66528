//! The lowering of integers: expressions, and the instructions that count on their way.

use super::Lowering;
use crate::lang::ast::{self, Arithmetic, ExprKind, Var, Word};
use crate::lang::error::{Cause, Kind, ParameterKind};
use crate::lang::names::Role;
use crate::lang::token::Span;
use vinet_trusted::program::{Expr, Instr, Slot};

impl Lowering<'_, '_> {
    /// The value of a variable or parameter that has to be an integer.
    pub(super) fn integer(&mut self, var: &Var) -> Option<Expr> {
        if var.index.is_some() {
            let is = match self.names.role(var) {
                Some(Role::Key) => Kind::Addr,
                Some(Role::Packets) => Kind::Packets,
                None => {
                    self.result(var, Role::Packets);
                    return None;
                }
            };
            self.error(&var.span, Cause::WrongKind { var: var.text(), is, wanted: Kind::Int });
            return None;
        }
        if self.names.kind(&var.name).is_some() {
            return self.var(var, Kind::Int).map(|slot| Expr::Slot { slot });
        }
        if self.names.grouping_of(&var.name).is_some() {
            self.error(&var.span, Cause::IndexNeeded { name: var.name.clone() });
            return None;
        }
        self.number_parameter(&var.name, &var.span).map(|value| Expr::Const { value })
    }

    pub(super) fn number_parameter(&mut self, name: &str, span: &Span) -> Option<i64> {
        if let Some(is) = self.names.kind(name) {
            self.error(span, Cause::NotAParameter { name: name.to_string(), is });
            return None;
        }
        if !self.parameters.is_set(name) {
            let cause = self.unset(name, ParameterKind::Number);
            self.error(span, cause);
            return None;
        }
        self.parameters.integer(name, span).unwrap_or_else(|error| {
            self.errors.push(error);
            None
        })
    }

    pub(super) fn expr(&mut self, expr: &ast::Expr, out: &mut Vec<Instr>) -> Option<Expr> {
        let routine = match &expr.kind {
            ExprKind::Number(value) => return Some(Expr::Const { value: *value }),
            ExprKind::Var(var) => return self.integer(var),
            ExprKind::Join { sign, a, b } => {
                let a = self.expr(a, out);
                let b = self.expr(b, out);
                let (a, b) = (Box::new(a?), Box::new(b?));
                return Some(match sign {
                    Arithmetic::Add => Expr::Add { a, b },
                    Arithmetic::Sub => Expr::Sub { a, b },
                    Arithmetic::Mul => Expr::Mul { a, b },
                });
            }
            ExprKind::Size(_) => "SIZE",
            ExprKind::Count { .. } => "COUNT_STRING",
            ExprKind::Score { .. } => "SCORE",
        };
        if let Some(place) = self.in_clause {
            self.error(&expr.span, Cause::NotInLoop { routine, place });
            return None;
        }
        let slot = match &expr.kind {
            ExprKind::Size(arg) => {
                let arg = self.packets(arg);
                let slot = self.scratch(&expr.span);
                self.push(out, &expr.span, arg.map(|arg| Instr::Size { out: slot, arg }));
                slot
            }
            ExprKind::Count { arg, word } => {
                let (arg, word) = (self.packets(arg), self.word(word));
                let slot = self.scratch(&expr.span);
                let count = || Some(Instr::Count { out: slot, arg: arg?, word: word? });
                self.push(out, &expr.span, count());
                slot
            }
            ExprKind::Score { arg, weights } => {
                let count = self.scratch(&expr.span);
                let sum = self.scratch(&expr.span);
                self.score(sum, count, arg, weights, &expr.span, out);
                sum
            }
            ExprKind::Number(_) | ExprKind::Var(_) | ExprKind::Join { .. } => return None,
        };
        Some(Expr::Slot { slot })
    }

    /// Counts each word and adds its count times its weight.
    pub(super) fn score(
        &mut self,
        sum: Slot,
        count: Slot,
        arg: &Var,
        weights: &[(Word, i64)],
        span: &Span,
        out: &mut Vec<Instr>,
    ) {
        let arg = self.packets(arg);
        for (i, (word, weight)) in weights.iter().enumerate() {
            let word = self.word(word);
            let instr = || Some(Instr::Count { out: count, arg: arg?, word: word? });
            self.push(out, span, instr());
            let counted = Expr::Slot { slot: count };
            let weighted = Expr::Mul { a: Box::new(counted), b: Box::new(Expr::Const { value: *weight }) };
            let expr = match i {
                0 => weighted,
                _ => Expr::Add { a: Box::new(Expr::Slot { slot: sum }), b: Box::new(weighted) },
            };
            self.push(out, span, Some(Instr::Let { out: sum, expr }));
        }
    }
}
