//! One layout for source texts: a statement a line, two blanks for each level, keywords in one case.
//!
//! Tokens are never added, dropped or moved, and every comment stays behind the token that it stood behind; so the text
//! compiles to the same bytes, and formatting what is formatted changes nothing.

use super::Cause;
use super::error::{Diagnostic, Errors, Located, SOURCE_BYTES_MAX};
use super::parse;
use super::token::{Comment, Keyword, Spanned, Token, scan};
use std::sync::Arc;

/// The widest line that is written where it can be broken.
const WIDTH_MAX: usize = 120;
/// How much further in the rest of a broken statement stands.
const CONTINUED: usize = 4;

/// The text of `file` in its one layout.
///
/// # Errors
/// The first place where the text leaves the grammar.
pub fn format(file: &str, text: &str) -> Result<String, Errors> {
    let shared: Arc<str> = Arc::from(text);
    let told = |located: Located| Errors(vec![Diagnostic::new(file, &shared, located)]);
    if text.len() > SOURCE_BYTES_MAX {
        return Err(told(Located::new(0..0, Cause::SourceTooLong { len: text.len() })));
    }
    parse::source(text).map_err(told)?;
    let (tokens, comments) = scan(text).map_err(told)?;
    let mut layout = Layout { text, tokens: &tokens, comments: &comments, at: 0, next_comment: 0, out: Out::default() };
    while layout.tokens[layout.at].token != Token::EndOfText {
        layout.stmt(0);
    }
    layout.comments_before(0);
    Ok(layout.out.finish())
}

/// The lines written so far.
#[derive(Default)]
struct Out {
    done: String,
    /// The line at hand, without its indentation.
    line: String,
    indent: usize,
    /// Nothing may follow on this line: it ends in a comment.
    closed: bool,
}

impl Out {
    fn end_line(&mut self) {
        if !self.line.is_empty() {
            self.done.extend(std::iter::repeat_n(' ', self.indent));
            self.done.push_str(&self.line);
            self.done.push('\n');
            self.line.clear();
        }
        self.closed = false;
    }
    fn blank_line(&mut self) {
        if !self.done.is_empty() && !self.done.ends_with("\n\n") {
            self.done.push('\n');
        }
    }
    fn width(&self) -> usize {
        self.indent + self.line.chars().count()
    }
    fn finish(mut self) -> String {
        self.end_line();
        let end = self.done.trim_end_matches('\n').len();
        self.done.truncate(end);
        if !self.done.is_empty() {
            self.done.push('\n');
        }
        self.done
    }
}

struct Layout<'a> {
    text: &'a str,
    tokens: &'a [Spanned],
    comments: &'a [Comment],
    at: usize,
    next_comment: usize,
    out: Out,
}

// The text is one of the grammar, so a statement begins wherever one is expected.
impl Layout<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }
    fn is(&self, keyword: Keyword) -> bool {
        self.peek() == &Token::Keyword(keyword)
    }

    /// Whether the author left a line empty before `start`.
    fn blank_before(&self, start: usize) -> bool {
        let before = &self.text[..start];
        let gap = &before[before.trim_end().len()..];
        gap.matches('\n').count() > 1
    }

    /// The comments on lines of their own that stand before the token at hand.
    fn comments_before(&mut self, indent: usize) {
        let start = self.tokens[self.at].span.start;
        while let Some(comment) = self.comments.get(self.next_comment).filter(|comment| comment.span.start < start) {
            self.out.end_line();
            if self.blank_before(comment.span.start) {
                self.out.blank_line();
            }
            self.out.indent = indent;
            self.out.line.push_str(self.text[comment.span.clone()].trim_end());
            self.out.end_line();
            self.next_comment += 1;
        }
    }

    /// Begins a line for the token at hand, below the comments before it.
    fn new_line(&mut self, indent: usize) {
        self.out.end_line();
        self.comments_before(indent);
        if self.blank_before(self.tokens[self.at].span.start) {
            self.out.blank_line();
        }
        self.out.indent = indent;
    }

    /// Writes the token at hand and a comment behind it on its line.
    fn token(&mut self) {
        let Spanned { token, span, .. } = &self.tokens[self.at];
        match token {
            Token::Keyword(keyword) => self.out.line.push_str(keyword.text()),
            _ => self.out.line.push_str(&self.text[span.clone()]),
        }
        let end = span.end;
        self.at += 1;
        let next = self.tokens[self.at].span.start;
        if let Some(comment) = self.comments.get(self.next_comment).filter(|c| c.span.start < next && !c.starts_line)
            && comment.span.start >= end
        {
            self.out.line.push_str("  ");
            self.out.line.push_str(self.text[comment.span.clone()].trim_end());
            self.out.closed = true;
            self.next_comment += 1;
        }
    }

    fn stmt(&mut self, indent: usize) {
        self.new_line(indent);
        self.stmt_here(indent);
    }

    /// A statement whose first token goes on the line at hand.
    fn stmt_here(&mut self, indent: usize) {
        match self.peek() {
            Token::Keyword(Keyword::Begin) => {
                self.token();
                while !self.is(Keyword::End) {
                    self.stmt(indent + 2);
                }
                self.inner_end(indent);
                self.token();
                if self.peek() == &Token::Sign(";") {
                    self.follow(indent, false);
                }
            }
            Token::Keyword(Keyword::If) => {
                self.run(indent, |token| token == &Token::Keyword(Keyword::Then));
                self.body(indent);
                if self.is(Keyword::Else) {
                    let after_block = matches!(self.tokens[self.at - 1].token, Token::Keyword(Keyword::End));
                    if after_block && !self.out.closed && !self.comment_first() {
                        self.out.line.push(' ');
                    } else {
                        self.new_line(indent);
                    }
                    self.token();
                    if self.is(Keyword::If) && !self.out.closed && !self.comment_first() {
                        self.out.line.push(' ');
                        self.stmt_here(indent);
                    } else {
                        self.body(indent);
                    }
                }
            }
            Token::Keyword(Keyword::Foreach | Keyword::While) => {
                self.run(indent, |token| token == &Token::Keyword(Keyword::Do));
                self.body(indent);
            }
            Token::Keyword(Keyword::Lifetime | Keyword::Window) => {
                // The clause ends with its line, where it has no semicolon. `WINDOW = policy` is one token shorter.
                let words = if matches!(&self.tokens[self.at + 2].token, Token::Number(_)) { 4 } else { 3 };
                for i in 0..words {
                    self.follow(indent, i == 0);
                }
                if self.peek() == &Token::Sign(";") {
                    self.follow(indent, false);
                }
            }
            _ => self.run(indent, |token| token == &Token::Sign(";")),
        }
    }

    /// What stands behind `then`, `else` or `do`.
    fn body(&mut self, indent: usize) {
        if self.is(Keyword::Begin) && !self.out.closed && !self.comment_first() {
            self.out.line.push(' ');
            self.stmt_here(indent);
        } else if self.is(Keyword::Begin) {
            self.stmt(indent);
        } else {
            self.stmt(indent + 2);
        }
    }

    /// Whether a comment stands before the token at hand.
    fn comment_first(&self) -> bool {
        let start = self.tokens[self.at].span.start;
        self.comments.get(self.next_comment).is_some_and(|comment| comment.span.start < start)
    }

    /// Begins the line of an `end`; comments before it belong to the block.
    fn inner_end(&mut self, indent: usize) {
        self.out.end_line();
        self.comments_before(indent + 2);
        self.out.indent = indent;
    }

    /// The tokens up to one that ends them, broken where the line gets too wide.
    fn run(&mut self, indent: usize, ends: fn(&Token) -> bool) {
        let mut first = true;
        loop {
            let last = ends(self.peek());
            self.follow(indent, first);
            first = false;
            if last {
                return;
            }
        }
    }

    /// Writes the token at hand behind the one before it.
    fn follow(&mut self, indent: usize, first: bool) {
        if !first {
            let joint = matches!(self.peek(), Token::Keyword(Keyword::And | Keyword::Or));
            let before = &self.tokens[self.at - 1].token;
            let may_break = joint || before == &Token::Sign(",");
            let kept = may_break && self.tokens[self.at].starts_line;
            let further = if joint && self.in_head() { indent } else { indent + CONTINUED };
            let space = self.space();
            let too_wide = may_break && self.out.width() + usize::from(space) + self.chunk() > WIDTH_MAX;
            if self.out.closed || self.comment_first() || kept || too_wide {
                self.out.end_line();
                self.comments_before(further);
                self.out.indent = further;
            } else if space {
                self.out.line.push(' ');
            }
        }
        self.token();
    }

    /// Whether the token at hand is in no parenthesis of the head of an `if` or `while`.
    fn in_head(&self) -> bool {
        let mut open = 0_usize;
        for spanned in self.tokens[..self.at].iter().rev() {
            match spanned.token {
                Token::Sign(")" | "}") => open += 1,
                Token::Sign("(" | "{") if open == 0 => return false,
                Token::Sign("(" | "{") => open -= 1,
                Token::Keyword(Keyword::If | Keyword::While) => return true,
                Token::Sign(";") => return false,
                _ => {}
            }
        }
        false
    }

    /// The width of what follows up to the next place where the line can be broken as well; behind an `and` or `or` that
    /// is the next one beside it, so that lines are rather broken there than inside of what they join.
    fn chunk(&self) -> usize {
        let is_joint = |token: &Token| matches!(token, Token::Keyword(Keyword::And | Keyword::Or));
        let joined = is_joint(self.peek());
        let (mut width, mut open) = (0, 0_i32);
        for (i, spanned) in self.tokens.iter().enumerate().skip(self.at) {
            let beside = is_joint(&spanned.token) && (open == 0 || !joined);
            if i > self.at && (beside || !joined && self.tokens[i - 1].token == Token::Sign(",")) {
                break;
            }
            width += self.text[spanned.span.clone()].chars().count() + usize::from(i > self.at && self.space_at(i));
            match spanned.token {
                Token::Sign(";") | Token::Keyword(Keyword::Then | Keyword::Do) | Token::EndOfText => break,
                Token::Sign("(" | "{") => open += 1,
                Token::Sign(")" | "}") => open -= 1,
                _ => {}
            }
            if open < 0 {
                break;
            }
        }
        width
    }

    fn space(&self) -> bool {
        self.space_at(self.at)
    }

    /// Whether a blank stands between token `at` and the one before it.
    fn space_at(&self, at: usize) -> bool {
        let (before, token) = (&self.tokens[at - 1].token, &self.tokens[at].token);
        match (before, token) {
            (_, Token::Sign(")" | "}" | "," | ";" | "..")) | (Token::Sign("(" | "{" | ".."), _) => false,
            // A sign of its own number.
            (Token::Sign("-"), _) => at < 2 || self.is_operand(at - 2),
            (Token::Name(name), Token::Sign("(")) => {
                ["variant", "invariant"].iter().any(|word| name.eq_ignore_ascii_case(word))
            }
            (Token::Keyword(keyword), Token::Sign("(")) => {
                use Keyword::{And, Else, If, In, Not, Or, While};
                matches!(keyword, And | Or | Not | If | While | In | Else)
            }
            _ => true,
        }
    }

    /// Whether token `at` ends an integer, so that a sign behind it joins two.
    fn is_operand(&self, at: usize) -> bool {
        match &self.tokens[at].token {
            Token::Number(_) => true,
            Token::Sign(")") => !self.ends_folded_word(at),
            Token::Name(name) => !["variant", "invariant"].iter().any(|word| name.eq_ignore_ascii_case(word)),
            _ => false,
        }
    }

    /// Whether the parenthesis at `at` is the end of a FOLD: what follows it is the weight of a word.
    fn ends_folded_word(&self, at: usize) -> bool {
        at.checked_sub(3).is_some_and(|fold| self.tokens[fold].token == Token::Keyword(Keyword::Fold))
    }
}
