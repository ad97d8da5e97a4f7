//! The two notations of a connection string, read as libpq reads them: key/value pairs and URIs.

use crate::error::{Error, Result};

/// Key and value pairs in the order in which they stand; a later one replaces an earlier one.
pub(super) type Pairs = Vec<(String, String)>;

const HINT: &str = "Give key/value pairs, such as host=db1 dbname=shop, or a postgresql:// URI, as for psql.";

/// Reads either notation. A single word is the name of a database.
pub(super) fn parse(text: &str) -> Result<Pairs> {
    if let Some(rest) = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return parse_uri(rest);
    }
    let word = text.trim();
    if !word.is_empty() && !word.contains(|c: char| c == '=' || c.is_whitespace()) {
        return Ok(vec![("dbname".into(), word.into())]);
    }
    parse_pairs(text)
}

/// `value` as it stands behind `key=`.
pub(super) fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@%+,*[]".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The text may hold a password, so that no message repeats it.
fn invalid(why: impl Into<String>) -> Error {
    Error::Usage { message: format!("invalid connection string: {}", why.into()), hint: HINT.into() }
}

fn parse_pairs(text: &str) -> Result<Pairs> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let key = &rest[..end];
        let Some(behind) = rest[end..].trim_start().strip_prefix('=') else {
            // What lacks its "=" may be the rest of a password with a space in it.
            let last = pairs.last().map_or("at the beginning".into(), |(key, _)| format!("after \"{key}\""));
            return Err(invalid(format!("missing \"=\" {last}")));
        };
        let (value, behind) = take_value(behind.trim_start(), key)?;
        pairs.push((key.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(pairs)
}

/// A value, in quotes or not, and what follows it. A backslash takes the next character as it is.
fn take_value<'a>(text: &'a str, key: &str) -> Result<(String, &'a str)> {
    let quoted = text.starts_with('\'');
    let body = &text[usize::from(quoted)..];
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        return Err(invalid(format!("the quoted value of \"{key}\" does not end")));
    }
    Ok((value, ""))
}

/// What follows `postgresql://`.
fn parse_uri(text: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let mut rest = text;
    // User and password end at the first "@", if one comes before the first "/".
    if let Some(at) = text.find(['@', '/']).filter(|at| text[*at..].starts_with('@')) {
        let (user, password) = match text[..at].split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (&text[..at], None),
        };
        push_decoded(&mut pairs, "user", user)?;
        push_decoded(&mut pairs, "password", password.unwrap_or_default())?;
        rest = &text[at + 1..];
    }
    rest = take_hosts(rest, &mut pairs)?;
    let (path, parameters) = match rest.split_once('?') {
        Some((path, parameters)) => (path, Some(parameters)),
        None => (rest, None),
    };
    push_decoded(&mut pairs, "dbname", path.strip_prefix('/').unwrap_or(path))?;
    for parameter in parameters.into_iter().flat_map(|all| all.split('&')).filter(|one| !one.is_empty()) {
        let Some((key, value)) = parameter.split_once('=') else {
            return Err(invalid("a parameter behind \"?\" lacks its \"=\""));
        };
        if value.contains('=') {
            return Err(invalid("a parameter behind \"?\" has more than one \"=\""));
        }
        let (key, value) = (decode(key)?, decode(value)?);
        // What JDBC says.
        if key == "ssl" && value == "true" {
            pairs.push(("sslmode".into(), "require".into()));
        } else {
            pairs.push((key, value));
        }
    }
    Ok(pairs)
}

/// `host:port,[ipv6]:port,…`; what follows.
fn take_hosts<'a>(text: &'a str, pairs: &mut Pairs) -> Result<&'a str> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    let mut rest = text;
    loop {
        let host = if let Some(bracketed) = rest.strip_prefix('[') {
            let Some((address, behind)) = bracketed.split_once(']') else {
                return Err(invalid("an IPv6 address lacks its \"]\""));
            };
            if address.is_empty() {
                return Err(invalid("an IPv6 address is empty"));
            }
            if !behind.is_empty() && !behind.starts_with([':', '/', '?', ',']) {
                return Err(invalid("only \":\", \"/\", \"?\" or \",\" may follow an IPv6 address"));
            }
            rest = behind;
            address
        } else {
            let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            let (host, behind) = rest.split_at(end);
            rest = behind;
            host
        };
        hosts.push(host);
        ports.push(match rest.strip_prefix(':') {
            Some(behind) => {
                let end = behind.find(['/', '?', ',']).unwrap_or(behind.len());
                rest = &behind[end..];
                &behind[..end]
            }
            None => "",
        });
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    for (key, list) in [("host", hosts), ("port", ports)] {
        if list.iter().any(|one| !one.is_empty()) {
            push_decoded(pairs, key, &list.join(","))?;
        }
    }
    Ok(rest)
}

fn push_decoded(pairs: &mut Pairs, key: &str, text: &str) -> Result<()> {
    if !text.is_empty() {
        pairs.push((key.to_owned(), decode(text)?));
    }
    Ok(())
}

/// Replaces `%41` by what it stands for.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let hexadecimal = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hexadecimal.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(0) => return Err(invalid("%00 stands for nothing that a value may hold")),
            Some(byte) => bytes.push(byte),
            None => {
                return Err(invalid(
                    "a \"%\" is not followed by two hexadecimal digits (\"%25\" is a \"%\")",
                ));
            }
        }
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid("a value is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn expect(text: &str, expected: &[(&str, &str)]) {
        let found = pairs(text);
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn reads_key_value_pairs_as_libpq_does() {
        expect("", &[]);
        expect("  \n", &[]);
        expect("shop", &[("dbname", "shop")]);
        expect("host=db1 dbname=shop", &[("host", "db1"), ("dbname", "shop")]);
        expect(" host = db1\n\tport= 5433 ", &[("host", "db1"), ("port", "5433")]);
        expect("user='a b' password='it\\'s \\\\'", &[("user", "a b"), ("password", "it's \\")]);
        expect("password=a\\ b\\'c", &[("password", "a b'c")]);
        expect("password=a=b'c", &[("password", "a=b'c")]);
        expect("password='' host=x", &[("password", ""), ("host", "x")]);
        expect("host='x'port=1", &[("host", "x"), ("port", "1")]);
        expect("password=x\\", &[("password", "x")]);
        expect("options='-c a=b -c c=d'", &[("options", "-c a=b -c c=d")]);
    }

    #[test]
    fn reads_uris_as_libpq_does() {
        expect("postgresql://", &[]);
        expect("postgres://db1", &[("host", "db1")]);
        expect("postgresql://db1:5433/shop", &[("host", "db1"), ("port", "5433"), ("dbname", "shop")]);
        expect(
            "postgresql://dba:s%40f%2Fe@db1/shop?sslmode=verify-full&application_name=a%20b",
            &[
                ("user", "dba"),
                ("password", "s@f/e"),
                ("host", "db1"),
                ("dbname", "shop"),
                ("sslmode", "verify-full"),
                ("application_name", "a b"),
            ],
        );
        expect("postgresql://a,b:2,c/d", &[("host", "a,b,c"), ("port", ",2,"), ("dbname", "d")]);
        expect(
            "postgresql://[::1]:5433,[2001:db8::1]/d",
            &[("host", "::1,2001:db8::1"), ("port", "5433,"), ("dbname", "d")],
        );
        expect("postgresql://%2Fvar%2Frun/shop", &[("host", "/var/run"), ("dbname", "shop")]);
        expect(
            "postgresql:///shop?host=/var/run&port=6432",
            &[("dbname", "shop"), ("host", "/var/run"), ("port", "6432")],
        );
        expect("postgresql://dba@/shop", &[("user", "dba"), ("dbname", "shop")]);
        expect("postgresql://db1?user=x", &[("host", "db1"), ("user", "x")]);
        expect("postgresql:///a+b?ssl=true", &[("dbname", "a+b"), ("sslmode", "require")]);
        expect("postgresql://db1/mail@home", &[("host", "db1"), ("dbname", "mail@home")]);
        expect("postgresql://u:p:q@db1", &[("user", "u"), ("password", "p:q"), ("host", "db1")]);
    }

    #[test]
    fn every_printable_character_survives_in_a_password() {
        let password: String = (' '..='~').chain("äß€".chars()).collect();
        expect(&format!("password={}", quote(&password)), &[("password", password.as_str())]);
        let encoded: Vec<String> = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let encoded = encoded.concat();
        expect(
            &format!("postgresql://u:{encoded}@h"),
            &[("user", "u"), ("password", password.as_str()), ("host", "h")],
        );
        for character in password.chars() {
            let value = character.to_string();
            expect(&format!("password={} port=1", quote(&value)), &[("password", &value), ("port", "1")]);
            // Only these have to be encoded in a URI.
            if !"@/%".contains(character) {
                let expected = [("user", "u"), ("password", value.as_str()), ("host", "h")];
                expect(&format!("postgresql://u:{value}@h"), &expected);
            }
        }
    }

    #[test]
    fn mistakes_are_named_and_never_repeat_a_password() {
        for (text, why) in [
            ("host db1", "missing \"=\" at the beginning"),
            ("password=my secret", "missing \"=\" after \"password\""),
            ("password='secret", "the quoted value of \"password\" does not end"),
            ("postgresql://u:secret%zz@h", "a \"%\" is not followed by two hexadecimal digits"),
            ("postgresql://u:secret%+1@h", "a \"%\" is not followed by two hexadecimal digits"),
            ("postgresql://u:secret%2@h", "a \"%\" is not followed by two hexadecimal digits"),
            ("postgresql://u:secret%00@h", "%00"),
            ("postgresql://u:secret%ff@h", "not UTF-8"),
            ("postgresql://[::1/d", "lacks its \"]\""),
            ("postgresql://[]/d", "is empty"),
            ("postgresql://[::1]5432/d", "may follow an IPv6 address"),
            ("postgresql://h?password", "lacks its \"=\""),
            ("postgresql://h?password=secret=x", "more than one \"=\""),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
