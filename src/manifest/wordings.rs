//! What the parser of TOML says, in words that tell what to do: for mistakes that `advice` knows no better.

/// A part of the parser's message, what is wrong in our words, and the cure.
type Wording = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const WORDINGS: &[Wording] = &[
    ("missing comma between array", "there is no `,` between two elements", "Put a `,` between the elements."),
    ("missing comma between key", "there is no `,` between two keys of a table", "Put a `,` between them."),
    ("extra comma", "a `,` stands where a value is wanted", "Take it out."),
    ("extra assignment", "an `=` stands where a key or a `,` is wanted", "Take it out."),
    ("missing assignment", "there is no `=` between a key and its value", "Write `key = value`."),
    ("missing key for inline table", "a key is missing here", "Write one before the `=`, or take the value out."),
    ("unclosed inline table", "the table is not closed", "End it with `}`."),
    ("unclosed array table", "the header is not closed", "End it with `]]`."),
    ("unclosed table", "the header is not closed", "End it with `]`."),
    ("unclosed array", "the list is not closed", "End it with `]`."),
    ("non-double-quote visible", "a control character stands in this text", "Take it out, or write it as an escape such as `\\u0001`."),
    ("non-single-quote", "a control character stands in this text", "Take it out, or put the text between `\"` and write an escape such as `\\u0001`."),
    ("invalid multi-line basic", "the text is not closed", "End it with `\"\"\"`."),
    ("invalid multi-line literal", "the text is not closed", "End it with `'''`."),
    ("invalid basic string", "the text is not closed", "End it with `\"`."),
    ("invalid literal string", "a value is missing here", "Write one behind the `=`, or take the key out."),
    ("unicode", "no character has this number", "Write `\\u` and four hex digits of a character, or `\\\\` for a backslash."),
    ("missing escaped", "a `\\` inside of `\"` begins an escape", "Write `\\\\` for one, or put the text between `'`."),
    ("unquoted keys cannot be empty", "a key is missing here", "Write one, or take out the `.` or the `=`."),
    ("invalid unquoted key", "this cannot stand in a key without quotes", "Use letters, digits, `-` and `_`, or put the key into quotes."),
    ("string values must be quoted", "this is no value of TOML", "Put a text into quotes."),
    ("unexpected key or value", "something stands behind the value", "Put it on a line of its own, or take it out."),
    ("key with no value", "this is no statement of TOML", "Write `key = value`, or begin a comment with `#`."),
    ("expected key", "a key is missing here", "Write `key = value`."),
    ("recursion", "this is nested deeper than anything that is read here", "Take brackets or parts of the key out."),
    ("recurse", "this is nested deeper than anything that is read here", "Take brackets or parts of the key out."),
    ("carriage return", "a carriage return stands alone", "End each line with a newline, or with both."),
    ("invalid comment character", "a control character stands in this comment", "Take it out."),
    ("leading zero", "a number begins with no 0", "Take the zeros out, or put a text into quotes."),
    ("may only go between digits", "a `_` stands between digits only", "Take it out, or put a text into quotes."),
    ("sign", "this sign cannot stand here", "Take it out."),
    ("radix must be lowercase", "the base of a number is written small", "Write `0x`, `0o` or `0b`."),
    ("missing value", "a value is missing here", "Write one, or take the key out."),
];

/// What is wrong, and what to do.
pub(super) fn in_words(message: &str) -> (String, &'static str) {
    let found = WORDINGS.iter().find(|(part, ..)| message.contains(part));
    match found {
        Some((_, words, help)) => ((*words).to_owned(), help),
        None => (
            message.to_owned(),
            "Correct the TOML here; nothing else is said about this statement.",
        ),
    }
}
