//! A headless Chromium, driven through chromedriver: pages as people see them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::port::Port;
use super::scratch::Kept;
use super::wait::until;

/// Ends the browser with its driver: all of them are in one process group.
const DRIVER: &str = r#"
trap 'trap - TERM; kill 0' TERM
HOME=$1 chromedriver "$2" >&2 &
wait"#;

/// One browser with one window.
pub struct Browser {
    port: Port,
    session: String,
    _driver: Kept,
}

impl Browser {
    /// Starts one that keeps its files under `directory`.
    pub fn start(directory: &Path) -> Browser {
        let port = Port::claim();
        let profile = directory.join("chromium");
        std::fs::create_dir(&profile).expect("the scratch directory can be written");
        super::scratch::give_to_server_user(&profile);
        let (home, listen) = (profile.display().to_string(), format!("--port={}", port.number()));
        let arguments = ["-c", DRIVER, "browser", &home, &listen];
        let driver = Kept::start(Path::new("/bin/sh"), &arguments, &directory.join("browser.log"), "TERM");
        until("chromedriver answers", Duration::from_secs(60), || {
            request(port.number(), "GET", "/status", None).ok().filter(|(code, _)| *code == 200)
        });
        let options = json!({ "args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=960,540",
            format!("--user-data-dir={}", profile.join("profile").display()),
        ] });
        let mut browser = Browser { port, session: String::new(), _driver: driver };
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let answer = browser.ask("POST", "/session", &capabilities);
        answer["sessionId"].as_str().expect("a session has an id").clone_into(&mut browser.session);
        browser
    }

    /// Goes to a page and waits until it is there.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// What a script gives back.
    pub fn evaluate(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": format!("return {script}"), "args": [] }))
    }

    /// Clicks on the first element of a CSS selector, as a person does.
    pub fn click(&self, selector: &str) {
        let found = self.command("element", &json!({ "using": "css selector", "value": selector }));
        let element = found.as_object().and_then(|keys| keys.values().next()).expect("an element has an id");
        self.command(&format!("element/{}/click", element.as_str().expect("an id is a text")), &json!({}));
    }

    /// Waits until a script gives this back: a click may return before the page that it leads to is there.
    pub fn wait_for(&self, script: &str, expected: &str) {
        let path = format!("/session/{}/execute/sync", self.session);
        let body = json!({ "script": format!("return {script}"), "args": [] }).to_string();
        let expected = json!({ "value": expected });
        until(&format!("{script} gives {expected}"), Duration::from_secs(60), || {
            let (code, text) = request(self.port.number(), "POST", &path, Some(&body)).ok()?;
            let given = serde_json::from_str::<Value>(&text).ok()?;
            (code == 200 && given == expected).then_some(())
        });
    }

    /// What the window shows, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let answer = self.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        decode_base64(answer.as_str().expect("a picture is a text"))
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{name}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = (!body.is_null()).then(|| body.to_string());
        let answer = request(self.port.number(), method, path, text.as_deref());
        let (code, text) = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(code, 200, "{method} {path}: {text}");
        serde_json::from_str::<Value>(&text).expect("chromedriver answers in JSON")["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its windows end with the session; the driver alone would leave them.
        let _ = request(self.port.number(), "DELETE", &format!("/session/{}", self.session), None);
    }
}

/// One HTTP request to 127.0.0.1; the status and the body.
pub fn request(port: u16, method: &str, path: &str, body: Option<&str>) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let content = body.unwrap_or_default();
    let kind =
        if content.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n{content}",
        content.len()
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if count == 0 || length.is_some_and(|length| rest.len() >= length) {
            let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
            return code
                .map(|code| (code, rest.to_owned()))
                .ok_or_else(|| std::io::ErrorKind::InvalidData.into());
        }
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let sextets: Vec<u32> = text.bytes().filter_map(value).map(u32::from).collect();
    let mut bytes = Vec::new();
    for group in sextets.chunks(4) {
        let bits = group.iter().fold(0, |bits, sextet| bits << 6 | sextet) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
