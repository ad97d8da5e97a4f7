//! PostgreSQL's lexical rules, as far as finding statements and the names in them needs.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an unquoted identifier.
    Word,
    /// An identifier in double quotes.
    Quoted,
    /// A string in any notation, dollar quotes included.
    String,
    /// `-- …` to the end of its line.
    LineComment,
    /// `/* … */`, nested ones inside.
    BlockComment,
    /// A backslash command of psql, to the end of its line.
    Meta,
    /// Any other single character.
    Symbol,
}

/// One token of a script: its bytes `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset after its last byte.
    pub end: usize,
}

impl Token {
    /// Its text in `script`.
    pub fn text(self, script: &str) -> &str {
        &script[self.start..self.end]
    }

    /// Whether it is this keyword (given in lower case), in any case and not quoted.
    pub fn is_word(self, script: &str, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text(script).eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this one character.
    pub fn is_symbol(self, script: &str, symbol: char) -> bool {
        self.kind == Kind::Symbol && self.text(script).starts_with(symbol)
    }

    /// The name that it stands for, when it can be one.
    pub fn name(self, script: &str) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text(script).to_ascii_lowercase()),
            Kind::Quoted => {
                let text = self.text(script);
                Some(text[1..text.len() - 1].replace("\"\"", "\""))
            }
            _ => None,
        }
    }
}

/// Tokens of a script, comments included, white space left out.
pub struct Lexer<'a> {
    script: &'a str,
    at: usize,
    /// `standard_conforming_strings`: off, a backslash escapes in every string.
    pub standard_strings: bool,
    /// Nothing but comments since the last statement: where psql takes backslash commands.
    pub between_statements: bool,
}

impl<'a> Lexer<'a> {
    /// Reads `script` from its beginning.
    pub fn new(script: &'a str) -> Self {
        Lexer { script, at: 0, standard_strings: true, between_statements: true }
    }

    fn rest(&self) -> &'a str {
        &self.script[self.at..]
    }

    /// Length of what stands at the beginning of `rest` up to and with the end that `find` gives; all of it without one.
    fn upto(rest: &str, from: usize, end: &str) -> usize {
        rest[from..].find(end).map_or(rest.len(), |found| from + found + end.len())
    }

    fn quoted_length(rest: &str, quote: u8, backslashes: bool) -> usize {
        let bytes = rest.as_bytes();
        let mut at = 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if backslashes => at += 2,
                byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                byte if byte == quote => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    }

    fn block_comment_length(rest: &str) -> usize {
        let bytes = rest.as_bytes();
        let (mut depth, mut at) = (0, 0);
        while at < bytes.len() {
            match &bytes[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                return at;
            }
        }
        bytes.len()
    }

    /// Length of a dollar-quoted string, when one begins here.
    fn dollar_length(rest: &str) -> Option<usize> {
        let tag_end = 1 + rest[1..].find('$')?;
        let tag = &rest[1..tag_end];
        let valid = tag.chars().all(is_word_part) && !tag.starts_with(|c: char| c.is_ascii_digit());
        let delimiter = &rest[..=tag_end];
        valid.then(|| Self::upto(rest, delimiter.len(), delimiter))
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit()
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length) = match first {
            '-' if rest.starts_with("--") => (Kind::LineComment, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") => (Kind::BlockComment, Self::block_comment_length(rest)),
            '\\' if self.between_statements => (Kind::Meta, rest.find('\n').unwrap_or(rest.len())),
            '\'' => (Kind::String, Self::quoted_length(rest, b'\'', !self.standard_strings)),
            '"' => (Kind::Quoted, Self::quoted_length(rest, b'"', false)),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                (Kind::String, 1 + Self::quoted_length(&rest[1..], b'\'', true))
            }
            '$' => Self::dollar_length(rest).map_or((Kind::Symbol, 1), |length| (Kind::String, length)),
            c if is_word_part(c) => {
                let end = rest.find(|c: char| !is_word_part(c) && c != '$');
                (Kind::Word, end.unwrap_or(rest.len()))
            }
            c => (Kind::Symbol, c.len_utf8()),
        };
        let token = Token { kind, start: self.at, end: self.at + length.min(rest.len()) };
        self.at = token.end;
        Some(token)
    }
}

/// Tokens of one statement, comments left out.
pub fn tokens(statement: &str) -> Vec<Token> {
    let mut lexer = Lexer::new(statement);
    lexer.between_statements = false;
    lexer.filter(|token| !matches!(token.kind, Kind::LineComment | Kind::BlockComment)).collect()
}

/// The possibly qualified name at `tokens[at]`: its parts, and the index after it.
pub fn qualified_name(statement: &str, tokens: &[Token], at: usize) -> Option<(Vec<String>, usize)> {
    let mut parts = vec![tokens.get(at)?.name(statement)?];
    let mut next = at + 1;
    while tokens.get(next).is_some_and(|token| token.is_symbol(statement, '.')) {
        parts.push(tokens.get(next + 1)?.name(statement)?);
        next += 2;
    }
    Some((parts, next))
}
