//! What a text says, before names mean anything.

use super::error::{Cause, ScriptError, Span};
use super::lex::{Token, tokens};
use vinet_trusted::addr::{Addr, Prefix};
use vinet_trusted::term::Op;

/// The deepest nesting of formulas, terms and deductions.
pub const DEPTH_MAX: usize = 100;

/// A formula, term or deduction; which it has to be is told by where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Name(String),
    Int(i64),
    Addr(Addr),
    Addrs(Vec<Prefix>),
    Numbers(Vec<(u32, u32)>),
    /// `$3`
    Slot(u32),
    Call(String, Vec<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Quantified(Op, Vec<(String, Name)>, Box<Expr>),
    /// `[F]`: a theorem that is there.
    Fact(Box<Expr>),
    Block(Vec<Item>),
    /// `assume h : F { … }`, and `suppose-absurd`.
    Assume {
        absurd: bool,
        name: Option<String>,
        formula: Box<Expr>,
        body: Box<Expr>,
    },
    PickAny(Vec<(String, Name)>, Box<Expr>),
    /// `pick-witness x, h for D { … }`
    PickWitness {
        name: String,
        fact: Option<String>,
        exists: Box<Expr>,
        body: Box<Expr>,
    },
    /// `cases D { h => { … } h => { … } }`
    Cases {
        either: Box<Expr>,
        arms: [(String, Box<Expr>); 2],
    },
    Conclude(Box<Expr>, Box<Expr>),
}

/// A name in the text.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub span: Span,
    pub name: String,
}

/// A line of a block.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub name: Option<String>,
    pub deduction: Expr,
}

/// A parameter of a lemma: the sorts of its arguments, and its own.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub name: Name,
    pub args: Vec<Name>,
    pub sort: Name,
}

#[derive(Clone, Debug)]
pub(crate) struct LemmaText {
    pub name: Name,
    pub sorts: Vec<Name>,
    pub parameters: Vec<Parameter>,
    pub premises: Vec<(Name, Expr)>,
    pub conclusion: Expr,
    pub proof: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct MethodText {
    pub name: Name,
    /// With the sort of each, or `thm`.
    pub parameters: Vec<(String, Name)>,
    pub body: Expr,
}

/// What a text says of a loop.
#[derive(Clone, Debug)]
pub(crate) struct LoopText {
    pub place: Place,
    pub invariant: Option<Expr>,
    pub variant: Option<(Expr, u32)>,
    pub cost: Option<u64>,
}

/// The number of an instruction or obligation.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub span: Span,
    pub number: usize,
}

/// All that a text says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub module: Option<String>,
    pub lemmas: Vec<LemmaText>,
    pub methods: Vec<MethodText>,
    pub cost: Option<u64>,
    pub loops: Vec<LoopText>,
    /// With whether the first block is the dead one.
    pub branches: Vec<(Place, bool)>,
    pub obligations: Vec<(Place, Expr)>,
}

const ITEMS: &str = "`module`, `lemma`, `method`, `program`, `loop`, `branch` or `obligation`";
const RESERVED: [&str; 25] = [
    "module",
    "lemma",
    "method",
    "sorts",
    "given",
    "shows",
    "proof",
    "assume",
    "suppose-absurd",
    "pick-any",
    "pick-witness",
    "for",
    "conclude",
    "by",
    "let",
    "forall",
    "exists",
    "and",
    "or",
    "not",
    "in",
    "subset",
    "program",
    "loop",
    "branch",
];

pub(crate) fn parse(text: &str) -> Result<Text, ScriptError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let mut said = Text::default();
    while parser.peek() != &Token::End {
        parser.item(&mut said)?;
    }
    Ok(said)
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, ScriptError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }
    fn second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }
    fn span(&self) -> Span {
        self.tokens[self.at].1.clone()
    }
    fn since(&self, start: usize) -> Span {
        start..self.tokens[self.at.saturating_sub(1)].1.end.max(start)
    }
    fn next(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }
    fn expected(&self, expected: &'static str) -> ScriptError {
        ScriptError::new(self.span(), Cause::Expected { expected, found: self.peek().words() })
    }
    fn is_mark(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if *found == mark)
    }
    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if found == word)
    }
    fn eat_mark(&mut self, mark: &str) -> bool {
        let is_there = self.is_mark(mark);
        if is_there {
            self.next();
        }
        is_there
    }
    fn eat_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        if is_there {
            self.next();
        }
        is_there
    }
    fn mark(&mut self, mark: &'static str, expected: &'static str) -> Parsed<()> {
        if self.eat_mark(mark) { Ok(()) } else { Err(self.expected(expected)) }
    }
    fn word(&mut self, word: &'static str, expected: &'static str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.expected(expected)) }
    }
    fn name(&mut self, expected: &'static str) -> Parsed<Name> {
        match self.peek() {
            Token::Name(name) if !RESERVED.contains(&name.as_str()) => {
                let name = Name { span: self.span(), name: name.clone() };
                self.next();
                Ok(name)
            }
            _ => Err(self.expected(expected)),
        }
    }
    fn number(&mut self, expected: &'static str) -> Parsed<u64> {
        match *self.peek() {
            Token::Int(value) => {
                self.next();
                Ok(value.unsigned_abs())
            }
            _ => Err(self.expected(expected)),
        }
    }
    fn number32(&mut self, expected: &'static str) -> Parsed<u32> {
        let span = self.span();
        u32::try_from(self.number(expected)?).map_err(|_| ScriptError::new(span, Cause::IntegerTooLarge))
    }
    fn place(&mut self) -> Parsed<Place> {
        let span = self.span();
        Ok(Place { span, number: self.number("a number")? as usize })
    }

    // ---- Items of a text ----

    fn item(&mut self, said: &mut Text) -> Parsed<()> {
        let Token::Name(word) = self.peek().clone() else { return Err(self.expected(ITEMS)) };
        match word.as_str() {
            "module" => {
                self.next();
                said.module = Some(self.name("the module's name")?.name);
            }
            "lemma" => {
                self.next();
                let lemma = self.lemma()?;
                said.lemmas.push(lemma);
            }
            "method" => {
                self.next();
                let name = self.name("the method's name")?;
                self.mark("(", "`(` and the parameters")?;
                let parameters = if self.is_mark(")") { Vec::new() } else { self.binders()? };
                self.mark(")", "`)`")?;
                said.methods.push(MethodText { name, parameters, body: self.block()? });
            }
            "program" => {
                self.next();
                self.mark("{", "`{`")?;
                self.word("cost", "`cost`")?;
                said.cost = Some(self.number("a cost")?);
                self.mark("}", "`}`")?;
            }
            "loop" => {
                self.next();
                let said_of = self.of_loop()?;
                said.loops.push(said_of);
            }
            "branch" => {
                self.next();
                let place = self.place()?;
                let then_dead = self.is_word("then-dead");
                if !then_dead && !self.is_word("else-dead") {
                    return Err(self.expected("`then-dead` or `else-dead`"));
                }
                self.next();
                said.branches.push((place, then_dead));
            }
            "obligation" => {
                self.next();
                let place = self.place()?;
                said.obligations.push((place, self.block()?));
            }
            _ => return Err(self.expected(ITEMS)),
        }
        Ok(())
    }

    fn of_loop(&mut self) -> Parsed<LoopText> {
        let mut said = LoopText { place: self.place()?, invariant: None, variant: None, cost: None };
        self.mark("{", "`{`")?;
        while !self.eat_mark("}") {
            if self.eat_word("invariant") {
                said.invariant = Some(self.expr()?);
            } else if self.eat_word("variant") {
                let variant = self.sum()?;
                self.mark("<=", "`<=` and the most that it is at first")?;
                said.variant = Some((variant, self.number32("an integer")?));
            } else if self.eat_word("cost") {
                said.cost = Some(self.number("a cost")?);
            } else {
                return Err(self.expected("`invariant`, `variant`, `cost` or `}`"));
            }
            self.eat_mark(";");
        }
        Ok(said)
    }

    fn lemma(&mut self) -> Parsed<LemmaText> {
        let name = self.name("the lemma's name")?;
        let mut sorts = Vec::new();
        if self.eat_word("sorts") {
            sorts.push(self.name("a sort's name")?);
            while self.eat_mark(",") {
                sorts.push(self.name("a sort's name")?);
            }
        }
        let mut parameters = Vec::new();
        if self.eat_mark("(") {
            while !self.is_mark(")") {
                self.parameters(&mut parameters)?;
                if !self.eat_mark(",") {
                    break;
                }
            }
            self.mark(")", "`,` or `)`")?;
        }
        let mut premises = Vec::new();
        if self.eat_word("given") {
            loop {
                let name = self.name("the premise's name")?;
                self.mark(":", "`:` and the premise")?;
                premises.push((name, self.expr()?));
                if !self.eat_mark(",") {
                    break;
                }
            }
        }
        self.word("shows", "`given`, `,` or `shows`")?;
        let conclusion = self.expr()?;
        self.word("proof", "`proof`")?;
        Ok(LemmaText { name, sorts, parameters, premises, conclusion, proof: self.block()? })
    }

    /// `S T : Packets`, or `f : Addr Addr -> Prop`.
    fn parameters(&mut self, parameters: &mut Vec<Parameter>) -> Parsed<()> {
        let mut names = vec![self.name("a parameter's name")?];
        while !self.is_mark(":") {
            names.push(self.name("`:` or another name")?);
        }
        self.next();
        let mut sorts = vec![self.name("a sort")?];
        while matches!(self.peek(), Token::Name(_)) {
            sorts.push(self.name("a sort")?);
        }
        let (args, sort) = if self.eat_mark("->") {
            (sorts, self.name("a sort")?)
        } else if sorts.len() == 1 {
            (Vec::new(), sorts.remove(0))
        } else {
            return Err(self.expected("`->` and the sort of the result"));
        };
        parameters.extend(names.into_iter().map(|name| Parameter { name, args: args.clone(), sort: sort.clone() }));
        Ok(())
    }

    /// `x y : Packet, a : Addr`
    fn binders(&mut self) -> Parsed<Vec<(String, Name)>> {
        let mut binders = Vec::new();
        loop {
            let mut names = vec![self.name("a variable's name")?];
            while !self.is_mark(":") {
                names.push(self.name("`:` or another name")?);
            }
            self.next();
            let sort = self.name("a sort")?;
            binders.extend(names.into_iter().map(|name| (name.name, sort.clone())));
            if !self.eat_mark(",") {
                return Ok(binders);
            }
        }
    }

    // ---- Deductions ----

    fn block(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        self.mark("{", "`{`")?;
        let mut items = Vec::new();
        while !self.eat_mark("}") {
            let name = if self.eat_word("let") {
                let name = self.name("a name")?.name;
                self.mark("=", "`=`")?;
                Some(name)
            } else {
                None
            };
            items.push(Item { name, deduction: self.expr()? });
            if !self.eat_mark(";") && !self.is_mark("}") {
                return Err(self.expected("an operator, `;` or `}`"));
            }
        }
        Ok(Expr { span: self.since(start), kind: Kind::Block(items) })
    }

    fn boxed(expr: Expr) -> Box<Expr> {
        Box::new(expr)
    }

    /// A form that begins with a word of its own, if one stands here.
    fn form(&mut self) -> Parsed<Option<Kind>> {
        let Token::Name(word) = self.peek().clone() else { return Ok(None) };
        Ok(Some(match word.as_str() {
            "assume" | "suppose-absurd" => {
                self.next();
                let named = matches!(self.peek(), Token::Name(_)) && self.second() == &Token::Mark(":");
                let name = if named {
                    let name = self.name("a name")?.name;
                    self.next();
                    Some(name)
                } else {
                    None
                };
                let formula = Self::boxed(self.expr()?);
                Kind::Assume { absurd: word == "suppose-absurd", name, formula, body: Self::boxed(self.block()?) }
            }
            "pick-any" => {
                self.next();
                let binders = self.binders()?;
                Kind::PickAny(binders, Self::boxed(self.block()?))
            }
            "pick-witness" => {
                self.next();
                let name = self.name("a name for the witness")?.name;
                let fact = if self.eat_mark(",") { Some(self.name("a name for what holds of it")?.name) } else { None };
                self.word("for", "`for` and a theorem")?;
                let exists = Self::boxed(self.sum()?);
                Kind::PickWitness { name, fact, exists, body: Self::boxed(self.block()?) }
            }
            "conclude" => {
                self.next();
                let formula = Self::boxed(self.expr()?);
                let by = if self.eat_word("by") { self.expr()? } else { self.block()? };
                Kind::Conclude(formula, Self::boxed(by))
            }
            "forall" | "exists" => {
                self.next();
                let unique = word == "exists" && self.eat_mark("!");
                // `exists(h, F, t)` is the rule.
                if word == "exists" && self.is_mark("(") {
                    return Ok(Some(Kind::Call(word, self.arguments()?)));
                }
                let op = match word.as_str() {
                    "forall" => Op::Forall,
                    _ if unique => Op::Unique,
                    _ => Op::Exists,
                };
                let binders = self.binders()?;
                self.mark(".", "`.` and a formula")?;
                Kind::Quantified(op, binders, Self::boxed(self.expr()?))
            }
            "cases" => {
                self.next();
                if self.is_mark("(") {
                    let mut arguments = self.arguments()?;
                    if !self.is_mark("{") || arguments.len() != 1 {
                        return Ok(Some(Kind::Call(word, arguments)));
                    }
                    return self.arms(arguments.remove(0)).map(Some);
                }
                let either = self.sum()?;
                self.arms(either)?
            }
            _ => return Ok(None),
        }))
    }

    fn arms(&mut self, either: Expr) -> Parsed<Kind> {
        self.mark("{", "`{` and the two cases")?;
        let arm = |parser: &mut Self| {
            let name = parser.name("a name for what the case assumes")?.name;
            parser.mark("=>", "`=>`")?;
            Ok((name, Self::boxed(parser.block()?)))
        };
        let arms = [arm(self)?, arm(self)?];
        self.mark("}", "`}`")?;
        Ok(Kind::Cases { either: Self::boxed(either), arms })
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        self.mark("(", "`(`")?;
        let mut arguments = Vec::new();
        while !self.is_mark(")") {
            arguments.push(self.expr()?);
            if !self.eat_mark(",") {
                break;
            }
        }
        self.mark(")", "`,` or `)`")?;
        Ok(arguments)
    }

    // ---- Formulas and terms ----

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ScriptError::new(self.span(), Cause::TooDeep));
        }
        let start = self.span().start;
        let mut left = self.implication()?;
        if self.eat_mark("<->") {
            let right = self.implication()?;
            left = self.binary(start, Op::Iff, left, right);
        }
        self.depth -= 1;
        Ok(left)
    }
    /// A chain of operators is as deep as it is long.
    fn link(&self, links: &mut usize) -> Parsed<()> {
        *links += 1;
        if *links > DEPTH_MAX { Err(ScriptError::new(self.span(), Cause::TooDeep)) } else { Ok(()) }
    }
    fn binary(&self, start: usize, op: Op, left: Expr, right: Expr) -> Expr {
        Expr { span: self.since(start), kind: Kind::Binary(op, Box::new(left), Box::new(right)) }
    }
    fn implication(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let left = self.disjunction()?;
        if !self.eat_mark("->") {
            return Ok(left);
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ScriptError::new(self.span(), Cause::TooDeep));
        }
        let right = self.implication()?;
        self.depth -= 1;
        Ok(self.binary(start, Op::Implies, left, right))
    }
    fn disjunction(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let mut left = self.conjunction()?;
        let mut links = 0;
        while self.eat_word("or") {
            self.link(&mut links)?;
            let right = self.conjunction()?;
            left = self.binary(start, Op::Or, left, right);
        }
        Ok(left)
    }
    fn conjunction(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let mut left = self.denial()?;
        let mut links = 0;
        while self.eat_word("and") {
            self.link(&mut links)?;
            let right = self.denial()?;
            left = self.binary(start, Op::And, left, right);
        }
        Ok(left)
    }
    fn denial(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        if !self.eat_word("not") {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ScriptError::new(self.span(), Cause::TooDeep));
        }
        let denied = Box::new(self.denial()?);
        self.depth -= 1;
        Ok(Expr { span: self.since(start), kind: Kind::Not(denied) })
    }
    fn comparison(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let left = self.sum()?;
        let (op, denied) = if self.eat_mark("=") {
            (Op::Eq, false)
        } else if self.eat_mark("!=") {
            (Op::Eq, true)
        } else if self.eat_mark("<=") {
            (Op::Le, false)
        } else if self.eat_word("in") {
            (Op::In, false)
        } else if self.eat_word("subset") {
            (Op::Subset, false)
        } else {
            return Ok(left);
        };
        let right = self.sum()?;
        let compared = self.binary(start, op, left, right);
        let span = compared.span.clone();
        Ok(if denied { Expr { span, kind: Kind::Not(Box::new(compared)) } } else { compared })
    }
    fn sum(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let mut left = self.product()?;
        let mut links = 0;
        loop {
            self.link(&mut links)?;
            let op = if self.eat_mark("+") {
                Op::Add
            } else if self.eat_mark("-") {
                Op::Sub
            } else {
                return Ok(left);
            };
            let right = self.product()?;
            left = self.binary(start, op, left, right);
        }
    }
    fn product(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        let mut left = self.atom()?;
        let mut links = 0;
        while self.eat_mark("*") {
            self.link(&mut links)?;
            let right = self.atom()?;
            left = self.binary(start, Op::Mul, left, right);
        }
        Ok(left)
    }

    fn atom(&mut self) -> Parsed<Expr> {
        let start = self.span().start;
        if let Some(kind) = self.form()? {
            return Ok(Expr { span: self.since(start), kind });
        }
        let kind = match self.peek().clone() {
            Token::Int(value) => {
                self.next();
                Kind::Int(value)
            }
            Token::Addr(addr) => {
                self.next();
                Kind::Addr(addr)
            }
            Token::Mark("-") => {
                self.next();
                Kind::Int(-(self.number("an integer")? as i64))
            }
            Token::Mark("$") => {
                self.next();
                Kind::Slot(self.number32("the slot's number")?)
            }
            Token::Mark("(") => {
                self.next();
                let inner = self.expr()?;
                self.mark(")", "an operator or `)`")?;
                return Ok(Expr { span: self.since(start), kind: inner.kind });
            }
            Token::Mark("[") => {
                self.next();
                let formula = self.expr()?;
                self.mark("]", "an operator or `]`")?;
                Kind::Fact(Box::new(formula))
            }
            Token::Mark("{") => match self.second() {
                Token::Int(_) => self.numbers()?,
                Token::Addr(_) | Token::Prefix(_) => self.addresses()?,
                _ => return self.block(),
            },
            Token::Name(_) => {
                let name = self.name("a formula, a term or a deduction")?.name;
                if self.is_mark("(") { Kind::Call(name, self.arguments()?) } else { Kind::Name(name) }
            }
            _ => return Err(self.expected("a formula, a term or a deduction")),
        };
        Ok(Expr { span: self.since(start), kind })
    }

    fn addresses(&mut self) -> Parsed<Kind> {
        let mut prefixes = Vec::new();
        self.next();
        loop {
            match *self.peek() {
                Token::Addr(addr) => prefixes.push(Prefix::host(addr)),
                Token::Prefix(prefix) => prefixes.push(prefix),
                _ => return Err(self.expected("an address or prefix")),
            }
            self.next();
            if !self.eat_mark(",") {
                break;
            }
        }
        self.mark("}", "`,` or `}`")?;
        Ok(Kind::Addrs(prefixes))
    }

    fn numbers(&mut self) -> Parsed<Kind> {
        let mut ranges = Vec::new();
        self.next();
        loop {
            let first = self.number32("an integer")?;
            let last = if self.eat_mark("..") { self.number32("the last integer")? } else { first };
            ranges.push((first, last));
            if !self.eat_mark(",") {
                break;
            }
        }
        self.mark("}", "`,`, `..` or `}`")?;
        Ok(Kind::Numbers(ranges))
    }
}
