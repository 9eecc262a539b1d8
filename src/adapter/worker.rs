//! Asks a worker over HTTP, as an operator's command does now and then: one request, one answer, plain HTTP/1.0.

use crate::base::error::{Error, Result};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// A worker with all the tasks it can have answers with much less.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The body of `http://ADDRESS/path`. `address` is `HOST:PORT`, with or without `http://` before it.
pub fn get(address: &str, path: &str) -> Result<Vec<u8>> {
    if address.starts_with("https://") {
        return Err(Error::refuse(format_args!("{address}: a worker speaks plain HTTP; go there through an SSH tunnel")));
    }
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let answer = ask(host, path).map_err(|error| {
        Error::retry(format_args!("worker {host} does not answer: {error}; is it running, and is that its [http] listen?"))
    })?;
    body(&answer).map(<[u8]>::to_vec).ok_or_else(|| {
        let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        Error::retry(format_args!("worker {host} answers {path} with {first:?}; is that its [http] listen?"))
    })
}

fn ask(host: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let unknown = || std::io::Error::other("no such address; write HOST:PORT");
    let address = host.to_socket_addrs()?.next().ok_or_else(unknown)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Of an answer with status 200.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut words = answer[..head_end].split(|byte| *byte == b' ');
    let version = words.next()?;
    (version.starts_with(b"HTTP/1.") && words.next()? == b"200").then(|| &answer[head_end + 4..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request, whatever it asks for.
    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let count = stream.read(&mut asked).unwrap();
            assert!(asked[..count].starts_with(b"GET /tasks HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_body_of_a_good_answer_is_given_and_any_other_answer_is_told() {
        let good = answering("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(get(&format!("http://{good}/"), "/tasks").unwrap(), b"{}");
        let bad = get(&answering("HTTP/1.0 404 Not Found\r\n\r\n"), "/tasks").unwrap_err().to_string();
        assert!(bad.contains("404 Not Found") && bad.contains("[http] listen"), "{bad}");
        assert!(get("https://somewhere", "/tasks").unwrap_err().to_string().contains("plain HTTP"));
        assert!(get("127.0.0.1:1", "/tasks").unwrap_err().to_string().contains("does not answer"));
    }
}
