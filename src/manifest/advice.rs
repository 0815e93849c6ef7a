//! What a text that is no TOML was meant to be: the habits of other formats, in words and with a cure.
//!
//! An edit is offered only where the line is TOML after it.

use super::characters::{
    LOOK_ALIKE, is_escape, is_in_threes, is_invisible, is_nothing, is_odd_quote, outside_quotes,
    without_comment,
};
use super::guess::begins_statement;
use super::parse::{SyntaxError, SyntaxKind};
use super::schema::{Wanted, example_of, wanted};
use super::wordings::in_words;
use std::ops::Range;
use toml::de::DeTable;

/// Where the line stands in which the parser stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// A statement begins in it.
    Nothing,
    /// A list or a table that was opened on a line before.
    Brackets,
    /// A text of several lines: what stands there may be anything.
    Text,
}

/// What is wrong with a statement, and its cure. `span` and `message` are the parser's.
pub(super) fn syntax_error(
    text: &str,
    span: Range<usize>,
    message: &str,
    inside: Inside,
) -> SyntaxError {
    let start = text[..span.start.min(text.len())]
        .rfind('\n')
        .map_or(0, |n| n + 1);
    let mut lines = text[start..].lines();
    let line = Line {
        before: &text[..start],
        line: trim_end(lines.next().unwrap_or_default()),
        next: lines.next().unwrap_or_default().trim(),
        start,
        message,
        inside,
    };
    line.advice().unwrap_or_else(|| {
        let (message, help) = in_words(message);
        SyntaxError::new(SyntaxKind::NotToml, span, message, help)
    })
}

/// The line that the parser stopped in.
pub(super) struct Line<'a> {
    /// The text before it.
    pub(super) before: &'a str,
    pub(super) line: &'a str,
    next: &'a str,
    /// What the parser said.
    message: &'a str,
    /// Of the line in the file.
    pub(super) start: usize,
    inside: Inside,
}

/// Without blanks at its end; those that only look like blanks stay.
pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches([' ', '\t', '\r'])
}

impl Line<'_> {
    /// An error at a part of the line.
    pub(super) fn error(&self, part: &str, message: String, help: String) -> SyntaxError {
        let at = self.start + self.offset(part);
        SyntaxError::new(SyntaxKind::NotToml, at..at + part.len(), message, help)
    }

    pub(super) fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.line.as_ptr() as usize
    }

    /// The same, cured by another text in the part's place, where that is TOML.
    pub(super) fn cured(&self, part: &str, message: String, help: String, by: &str) -> SyntaxError {
        let mut error = self.error(part, message, help);
        let at = self.offset(part);
        let cured = format!("{}{by}{}", &self.line[..at], &self.line[at + part.len()..]);
        let is_toml = |text: &str| DeTable::parse(text).is_ok();
        let is_cured = match self.inside {
            Inside::Nothing => is_toml(&cured),
            // The list may end on the line, or behind it.
            Inside::Brackets => {
                is_toml(&format!("x = [\n{cured}")) || is_toml(&format!("x = [\n{cured}\n]"))
            }
            Inside::Text => false,
        };
        if is_cured {
            error.fix = Some((error.span.clone(), by.to_owned()));
        }
        error
    }

    fn advice(&self) -> Option<SyntaxError> {
        let code = self.line.trim_start();
        if code.starts_with('#') || code.is_empty() {
            return None;
        }
        if ["<<<<<<<", "=======", ">>>>>>>"]
            .iter()
            .any(|m| code.starts_with(m))
        {
            let message = "a conflict marker of Git stands here";
            let help = "Finish the merge, and take the markers out.";
            return Some(self.error(code, message.into(), help.into()));
        }
        match self.inside {
            Inside::Nothing => {}
            Inside::Brackets => return self.element(code),
            Inside::Text => return None,
        }
        if code.chars().all(|c| ")]},".contains(c)) {
            let message = "nothing is open that this could close";
            return Some(self.error(code, message.into(), "Take it out.".into()));
        }
        if let Some(mark) = ["//", "--", ";"].iter().find(|m| code.starts_with(**m)) {
            return Some(self.comment(&code[..mark.len()]));
        }
        if let Some(error) = self.odd_character() {
            return Some(error);
        }
        if code.starts_with("- ") {
            let message = "a line that begins with `-` is a list of YAML";
            let help = "Take the `-` out, or put the list between `[` and `]`.";
            return Some(self.error(&code[..1], message.into(), help.into()));
        }
        if code.starts_with('[') && !code.contains('=') && !code.contains(',') {
            return self.header(code);
        }
        if let Some(error) = self.colon(code) {
            return Some(error);
        }
        let Some((key, value)) = code.split_once('=') else {
            return self.no_equals(code);
        };
        let key = key.trim();
        if DeTable::parse(&format!("{key} = 0")).is_err() {
            let is_bare = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c);
            let bare = key.trim_matches(['[', ']', ' ']);
            if key.starts_with('[') && !bare.is_empty() && bare.chars().all(is_bare) {
                let message = "`[` and `]` stand around headers, not around keys";
                let help = format!("Write `{bare} = …`.");
                return Some(self.cured(key, message.into(), help, bare));
            }
            if !key.is_empty() && key.chars().all(is_bare) {
                if let Some((word @ ("export" | "set" | "let" | "const" | "var"), bare)) =
                    key.split_once(' ')
                {
                    let message = format!("`{word}` stands before no key of TOML");
                    let help = format!("Write `{bare} = …`.");
                    return Some(self.cured(key, message, help, bare.trim()));
                }
                let joined = key.split_whitespace().collect::<Vec<_>>().join("-");
                let message = "a key cannot hold a blank";
                let help = format!("Write `{joined}`, or put the key into quotes.");
                return Some(self.error(key, message.into(), help));
            }
            return None;
        }
        self.value(key, value.trim())
    }

    /// A line in the midst of a list or a table.
    fn element(&self, code: &str) -> Option<SyntaxError> {
        if code.starts_with("//") {
            return Some(self.comment(&code[..2]));
        }
        if let Some(error) = self.odd_character() {
            return Some(error);
        }
        if self.message.contains("missing comma")
            && let Some(error) = self.comma_before()
        {
            return Some(error);
        }
        let element = trim_end(code.strip_suffix(',').unwrap_or(code));
        let is_bare = element.starts_with(['-', '/', '$', '~']);
        if is_bare && !element.contains(['"', '\'', ',', '#', '{', '[', ']']) {
            return Some(self.quotes("", element, element, Some(Wanted::Text)));
        }
        self.inner("", code)
    }

    fn comment(&self, mark: &str) -> SyntaxError {
        let message = format!("`{mark}` begins no comment in TOML");
        self.cured(mark, message, "Write `#`.".into(), "#")
    }

    /// Quotes of text processors, letters of other alphabets, blanks that are none.
    fn odd_character(&self) -> Option<SyntaxError> {
        let (at, odd) = outside_quotes(self.line).find(|(_, c)| !c.is_ascii())?;
        let part = &self.line[at..at + odd.len_utf8()];
        let code = format!("U+{:04X}", u32::from(odd));
        if is_odd_quote(odd) {
            let message = format!("`{odd}` ({code}) is no quotation mark of TOML");
            let help = "Write `\"` before and behind the text.";
            let whole = self.line[at..].split(['#', ',']).next()?.trim_end();
            let inner = whole.trim_matches(is_odd_quote);
            let is_plain = !inner.contains(['"', '\\'])
                && !inner.contains(is_odd_quote)
                && whole.len() > inner.len();
            return Some(if is_plain {
                let mut error = self.cured(whole, message, help.into(), &format!("\"{inner}\""));
                error.span.end = error.span.start + odd.len_utf8();
                error
            } else {
                self.error(part, message, help.into())
            });
        }
        if let Some((_, latin)) = LOOK_ALIKE.iter().find(|(c, _)| *c == odd) {
            let message = format!("`{odd}` ({code}) only looks like the Latin letter `{latin}`");
            let help = format!("Type `{latin}` in its place.");
            return Some(self.cured(part, message, help, &latin.to_string()));
        }
        if is_invisible(odd) {
            let message = format!("an invisible character ({code}) stands here");
            let (help, by) = if odd.is_whitespace() {
                ("Type a plain blank.", " ")
            } else {
                ("Take it out.", "")
            };
            return Some(self.cured(part, message, help.into(), by));
        }
        let message = format!("`{odd}` ({code}) cannot stand here without quotes");
        let help = "Put the key or the text into quotes.";
        Some(self.error(part, message, help.into()))
    }

    /// `key: value`, as in YAML and JSON.
    fn colon(&self, code: &str) -> Option<SyntaxError> {
        let colon = outside_quotes(code).find(|(_, c)| *c == ':')?.0;
        let key = code[..colon].trim_end();
        let last = key.rsplit(['{', ',', '[', ' ', '\t']).next()?;
        let is_key = DeTable::parse(&format!("{last} = 0")).is_ok();
        // An address without quotes has its colon behind the `=`.
        let in_value = key.contains('=') && !key.contains('{');
        if !is_key || in_value || code[colon..].starts_with("://") {
            return None;
        }
        let part = &code[colon..=colon];
        let message = "a key and its value are joined by `=`, not by `:`";
        let help = format!("Write `{last} = …`.");
        Some(self.cured(part, message.into(), help, " ="))
    }

    fn no_equals(&self, code: &str) -> Option<SyntaxError> {
        let (key, rest) = code.split_once([' ', '\t']).unwrap_or((code, ""));
        if DeTable::parse(&format!("{key} = 0")).is_err() {
            return None;
        }
        let rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            let message = format!("`{key}` has no value");
            let help = format!("Write `{key} = …`, or take it out.");
            return Some(self.error(key, message, help));
        }
        let message = format!("there is no `=` behind `{key}`");
        let help = format!("Write `{key} = …`.");
        let gap = &code[key.len()..code.len() - rest.len()];
        let mut error = self.cured(gap, message, help, " = ");
        error.span = self.start + self.offset(key)..self.start + self.offset(rest);
        Some(error)
    }

    fn value(&self, key: &str, value: &str) -> Option<SyntaxError> {
        let bare = trim_end(without_comment(value));
        let mut error = self.value_alone(key, value, bare)?;
        // What stands right behind it, or would close it, may be a part of it.
        let comment = &value[bare.len()..];
        if comment.starts_with('#') || comment.contains([']', '}']) {
            error.fix = None;
        }
        Some(error)
    }

    /// The same without its comment.
    fn value_alone(&self, key: &str, value: &str, bare: &str) -> Option<SyntaxError> {
        if let Some(rest) = ["=", ">", ":"].iter().find_map(|s| bare.strip_prefix(s)) {
            let mark = &bare[..bare.len() - rest.len()];
            let message = format!("`={mark}` joins no key and value");
            return Some(self.cured(mark, message, "Write one `=`.".into(), ""));
        }
        if bare.is_empty() {
            let message = format!("`{key}` has no value");
            let help = if self.next.starts_with("- ") {
                "Put the list between `[` and `]`."
            } else {
                "Write a value behind the `=`, or take the key out."
            };
            let key = &self.line[self.line.find(key)?..][..key.len()];
            return Some(self.error(key, message, help.into()));
        }
        if let Some(whole) = bare.strip_suffix([',', ';'])
            && DeTable::parse(&format!("x = {whole}")).is_ok()
        {
            let mark = &bare[whole.len()..];
            let message = format!("a `{mark}` stands behind the value");
            return Some(self.cured(mark, message, "Take it out.".into(), ""));
        }
        let word = trim_end(bare.trim_end_matches([',', ';']));
        let wanted = self.wanted("", key);
        if let Some(error) = self.word(key, word, wanted) {
            return Some(error);
        }
        for (quote, name) in [('"', "`\"`"), ('\'', "`'`")] {
            let rest = bare.strip_prefix(quote);
            if rest.is_some_and(|r| !r.contains(quote)) {
                let message = "the text is not closed";
                let help = format!("End it with {name}.");
                let end = &bare[bare.len()..];
                // Where it was to end is plain only when nothing else could stand behind it.
                let is_plain = !value.contains(['#', ','])
                    && !bare[1..].contains(['"', '\''])
                    && !bare.contains(is_odd_quote);
                let close = if is_plain {
                    quote.to_string()
                } else {
                    String::new()
                };
                let mut error = self.cured(end, message.into(), help, &close);
                error.span.start = self.start + self.offset(bare);
                error.fix = error.fix.filter(|_| is_plain);
                return Some(error);
            }
            if bare.len() > 1
                && !bare.starts_with(quote)
                && bare.find(quote) == Some(bare.len() - 1)
            {
                let inner = &bare[..bare.len() - 1];
                let is_word = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
                if inner.chars().all(is_word) {
                    let message = "the text has no quote before it";
                    let right = format!("{quote}{inner}{quote}");
                    let help = format!("Write {right}.");
                    return Some(self.cured(bare, message.into(), help, &right));
                }
            }
        }
        if bare.starts_with('"') && self.message.contains("escape") {
            let message = "a `\\` inside of `\"` begins an escape";
            let help = "Write `\\\\` for one, or put the text between `'`.";
            let inner = bare.strip_prefix('"').and_then(|b| b.strip_suffix('"'));
            // Between `'` an escape that is right would be one no longer.
            let is_plain = |inner: &&str| {
                let mut behind = inner.split('\\').skip(1);
                !inner.contains(['"', '\''])
                    && !inner.contains("\\\\")
                    && behind.all(|b| !b.starts_with(is_escape))
            };
            return Some(match inner.filter(is_plain) {
                Some(inner) => self.cured(bare, message.into(), help.into(), &format!("'{inner}'")),
                None => self.error(bare, message.into(), help.into()),
            });
        }
        if let Some((at, _)) =
            outside_quotes(value).find(|(at, c)| *c == '/' && value[*at..].starts_with("//"))
            && DeTable::parse(&format!("x = {}", &value[..at])).is_ok()
        {
            return Some(self.comment(&value[at..at + 2]));
        }
        if self.message.contains("duplicate key") {
            if let Some(error) = self.key_twice() {
                return Some(error);
            }
            let message = "a key is given twice in one table";
            return Some(self.error(bare, message.into(), "Keep one of them.".into()));
        }
        if let Some(error) = self.brackets(bare) {
            return Some(error);
        }
        if bare.starts_with(['{', '[']) {
            return self.inner(key, bare);
        }
        if let Some(error) = self.behind(key, bare) {
            return Some(error);
        }
        let is_word = bare.starts_with(|c: char| c.is_ascii_alphanumeric() || "/.$~_-".contains(c));
        if is_word && !word.contains(['"', '\'', '\\', ',', '{', '[']) {
            return Some(self.quotes(key, bare, word, wanted));
        }
        let begins_none = !bare.starts_with(['"', '\'', '[', '{']) && !is_word;
        begins_none.then(|| {
            let message = "this is no value of TOML";
            self.error(bare, message.into(), "Put a text into quotes.".into())
        })
    }

    /// What a key wants. Below `env` and `labels` it is text, whatever the key is called.
    fn wanted(&self, outer: &str, key: &str) -> Option<Wanted> {
        let mut headers = self
            .before
            .lines()
            .rev()
            .filter(|l| l.trim_start().starts_with('['));
        let header = headers.next().unwrap_or_default();
        let header = header.trim_matches(['[', ']', ' ', '\t', '\r']);
        let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut tables = [header, outer, above]
            .into_iter()
            .flat_map(|t| t.split('.'));
        if tables.any(|t| ["env", "labels"].contains(&t.trim())) {
            return Some(Wanted::Text);
        }
        // A format is a number, and no other can be guessed.
        (last != "visor").then(|| wanted(last.trim())).flatten()
    }

    /// A text without its quotes. `word` is the text, `part` what it stands in.
    fn quotes(&self, key: &str, part: &str, word: &str, wanted: Option<Wanted>) -> SyntaxError {
        let key = key.rsplit('.').next().unwrap_or(key).trim();
        if wanted == Some(Wanted::Other) {
            let message = format!("`{word}` is no value of TOML");
            let help = match example_of(key) {
                Some(example) => format!("Write a value, for example `{key} = {example}`."),
                None => "Write a value.".to_owned(),
            };
            return self.error(part, message, help);
        }
        let quoted = format!("\"{word}\"");
        let message = "a text needs quotes".to_owned();
        let help = format!("Write {quoted}.");
        // More than one word may be a text and something behind it.
        let is_plain = !word.contains(char::is_whitespace)
            && !word.contains([';', '=', '}', ']'])
            && word.contains(|c: char| c.is_ascii_alphanumeric());
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if is_plain && (!is_number || wanted == Some(Wanted::Text)) {
            self.cured(part, message, help, &quoted)
        } else {
            self.error(part, message, help)
        }
    }

    /// Words in a list or an inline table.
    fn inner(&self, key: &str, value: &str) -> Option<SyntaxError> {
        // `{ height = 1,000,000 }`
        let mut bare = vec![false; value.len()];
        outside_quotes(value).for_each(|(at, _)| bare[at] = true);
        let mut windows = value.as_bytes().windows(5).zip(bare.windows(5));
        let thousands = windows.position(|(w, bare)| {
            let is_number = w[0].is_ascii_digit() && w[2..].iter().all(u8::is_ascii_digit);
            is_number && w[1] == b',' && bare.iter().all(|b| *b)
        });
        if let Some(at) = thousands {
            let message = "a number is written without `,`";
            let help = "Take the `,` out, or write `_` in its place.";
            return Some(self.error(&value[at + 1..at + 2], message.into(), help.into()));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.+-:/~$".contains(c);
        let mut word: Option<(usize, usize)> = None;
        let mut words = Vec::new();
        for (at, c) in outside_quotes(value) {
            word = match word {
                Some((from, to)) if to == at && is_word(c) => Some((from, at + c.len_utf8())),
                before => {
                    words.extend(before);
                    is_word(c).then_some((at, at + c.len_utf8()))
                }
            };
        }
        words.extend(word);
        for (from, to) in words {
            let word = &value[from..to];
            let is_key = value[to..].trim_start().starts_with('=');
            if is_key || DeTable::parse(&format!("x = {word}")).is_ok() {
                continue;
            }
            // Its own key, in a table.
            let before = value[..from].trim_end().strip_suffix('=');
            let own = before.and_then(|b| b.trim_end().rsplit(['{', ',', ' ', '[']).next());
            // What stands in a list is text.
            let wanted = own.map_or(Some(Wanted::Text), |own| self.wanted(key, own));
            let mut error = self
                .word(own.unwrap_or(key), word, wanted)
                .unwrap_or_else(|| self.quotes(own.unwrap_or_default(), word, word, wanted));
            if value[to..].starts_with('#') {
                error.fix = None;
            }
            return Some(error);
        }
        None
    }

    /// A bare word that is none of TOML's.
    fn word(&self, key: &str, word: &str, wanted: Option<Wanted>) -> Option<SyntaxError> {
        match word.to_ascii_lowercase().as_str() {
            "none" if key.rsplit('.').next() == Some("backup") && word != "none" => {
                let message = "a text needs quotes".to_owned();
                let help =
                    "Write \"none\" for no copy of the data, or take `backup` out for the default.";
                return Some(self.error(word, message, help.into()));
            }
            "none" if matches!(key.rsplit('.').next(), Some("backup" | "kind")) => {
                let (message, help) = ("a text needs quotes".to_owned(), "Write \"none\".");
                return Some(self.cured(word, message, help.into(), "\"none\""));
            }
            lower if is_nothing(lower) => {
                let message = format!("TOML has no `{word}`");
                let help = format!("Take `{key}` out: a key that is not there has its default.");
                return Some(self.error(word, message, help));
            }
            _ if wanted != Some(Wanted::Other) => return None,
            "true" | "yes" | "on" if word != "true" => return Some(self.truth(word, "true")),
            "false" | "no" | "off" if word != "false" => return Some(self.truth(word, "false")),
            _ => {}
        }
        // Leading zeros, and digits in threes.
        let is_digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        if !is_digits
            && ![',', '_', '\'', '.']
                .iter()
                .any(|mark| is_in_threes(word, *mark))
        {
            return None;
        }
        let digits: String = word.chars().filter(char::is_ascii_digit).collect();
        let number = digits.trim_start_matches('0');
        let number = if number.is_empty() { "0" } else { number };
        let message = format!("`{word}` is no number of TOML");
        Some(self.cured(word, message, format!("Write {number}."), number))
    }

    fn truth(&self, word: &str, right: &str) -> SyntaxError {
        let message = format!("`{word}` is no truth value of TOML");
        self.cured(word, message, format!("Write {right}."), right)
    }

    /// A list or table that the line opens and does not close.
    fn brackets(&self, value: &str) -> Option<SyntaxError> {
        let mut open = Vec::new();
        for (at, c) in outside_quotes(value) {
            match c {
                '[' => open.push((at, ']', "list")),
                '{' => open.push((at, '}', "table")),
                ']' | '}' => {
                    open.pop();
                }
                _ => {}
            }
        }
        let (at, close, word) = open.pop()?;
        let message = format!("the {word} is not closed");
        let help = format!("End it with `{close}`.");
        // The last element is plain only when it stands on this line, and a statement on the next.
        let ends_here = !value.ends_with(['[', '{', ',']);
        // In `["a]"` the bracket and the quote changed places.
        let is_turned = value.ends_with([']', '}', '"', '\'']) && value.contains([']', '}']);
        let is_plain = ends_here && open.is_empty() && begins_statement(self.next) && !is_turned;
        let close = if is_plain {
            close.to_string()
        } else {
            String::new()
        };
        let end = &value[value.len()..];
        let mut error = self.cured(end, message, help, &close);
        error.span.start = self.start + self.offset(&value[at..]);
        error.fix = error.fix.filter(|_| is_plain);
        Some(error)
    }
}
