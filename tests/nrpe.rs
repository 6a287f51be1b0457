//! The NRPE server, asked by the real check_nrpe and by peers that mean no good.
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use nodecheck::parse::nrpe::{Version, decode_response, encode_query};
use nodecheck::serve::{Answer, Ask, Limits, nrpe};
use tokio::sync::oneshot;

const CHECK_NRPE: &str = "/usr/lib/nagios/plugins/check_nrpe";
const VERSIONS: [(Version, u16, &[&str]); 3] =
    [(Version::V2, 2, &["-2"]), (Version::V3, 3, &["-3"]), (Version::V4, 4, &[])];
const SHORT: Duration = Duration::from_millis(400);

/// Says its query back; `state` gives the code it is asked for, `long` so many bytes.
struct Echo;

impl Ask for Echo {
    fn ask(&self, command: &str, arguments: &[&str]) -> Answer {
        let number = || arguments[0].parse().unwrap();
        match command {
            "state" => Answer { code: number() as u8, text: "STATE - state: as asked | a=1;2;3\nsecond line".into() },
            "long" => Answer { code: 1, text: long(number()) },
            _ => Answer { code: 0, text: [&[command], arguments].concat().join("!") },
        }
    }
}

fn long(size: usize) -> String {
    let mut text = "WARNING - long: many lines | lines=5;1;9".to_owned();
    while text.len() < size {
        text.push_str("\na line of the long text with an ä");
    }
    while text.len() > size {
        text.pop();
    }
    text
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                nrpe::serve(listener, Arc::new(Echo), limits, async { drop(stopped.await) }).await;
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// With a short deadline for requests.
    fn strict() -> Self {
        Self::start(Limits { request: SHORT, ..Limits::default() })
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Runs check_nrpe; its exit code and what it printed.
    fn check_nrpe(&self, options: &[&str]) -> (Option<i32>, String) {
        let port = self.address.port().to_string();
        let mut command = Command::new(CHECK_NRPE);
        command.args(["-H", "127.0.0.1", "-p", &port, "-n"]).args(options);
        let output = command.output().unwrap_or_else(|error| {
            panic!("{CHECK_NRPE}: {error}; install the package nagios-nrpe-plugin (Debian, Ubuntu)")
        });
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn assert_well(&self, after: &str) {
        let answer = last_words(self.send(&encode_query(Version::V4, b"well")), after);
        assert_eq!(decode_response(&answer).unwrap().text, b"well", "after {after}");
    }

    fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// All that the server says until it closes. A reset instead of an end is an error, and so is one right after it, which
/// reading does not show: it makes check_nrpe die of SIGPIPE.
fn last_words(mut stream: TcpStream, who: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{who}: {error}"));
    sleep(Duration::from_millis(1));
    let reset = stream.take_error().unwrap();
    assert!(reset.is_none(), "{who}: {reset:?}");
    bytes
}

/// A query with any fields and the right CRC over what there is.
fn raw(version: u16, kind: u16, length: i32, buffer: &[u8]) -> Vec<u8> {
    let mut packet = [version.to_be_bytes(), kind.to_be_bytes(), [0; 2], [0; 2], [0; 2]].concat();
    if version == 2 {
        packet.extend(buffer);
        packet.resize(1036, 0);
    } else {
        packet.extend([0; 2]);
        packet.extend(length.to_be_bytes());
        packet.extend(buffer);
    }
    let tail = if version == 3 { 3 } else { 0 };
    packet.resize(packet.len() + tail, 0);
    let crc = crc32fast::hash(&packet);
    packet[4..8].copy_from_slice(&crc.to_be_bytes());
    packet
}

fn query(version: u16, text: &[u8]) -> Vec<u8> {
    raw(version, 1, text.len() as i32, text)
}

#[test]
fn check_nrpe_gets_state_text_and_arguments() {
    let server = Server::start(Limits::default());
    for (version, _, option) in VERSIONS {
        for code in 0..4 {
            let command = format!("state!{code}");
            let said = server.check_nrpe(&[option, &["-c", &command]].concat());
            assert_eq!(said, (Some(code), "STATE - state: as asked | a=1;2;3\nsecond line\n".into()), "{version:?}");
        }
        let said = server.check_nrpe(&[option, &["-c", "check", "-a", "-w", "5", "-c", "20:"][..]].concat());
        assert_eq!(said, (Some(0), "check!-w!5!-c!20:\n".into()), "{version:?}");
        let said = server.check_nrpe(option);
        let version = format!("NRPE v4.1.0-compatible; nodecheck {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(said, (Some(0), version));
    }
}

#[test]
fn check_nrpe_gets_long_answers() {
    let server = Server::start(Limits::default());
    for (version, _, option) in VERSIONS {
        for size in [1022, 1023, 1024, 1025, 60_000, 65_534, 65_535, 65_536, 200_000] {
            let (code, text) = server.check_nrpe(&[option, &["-c", &format!("long!{size}")]].concat());
            let whole = long(size);
            let text = text.strip_suffix('\n').unwrap();
            assert_eq!(code, Some(1), "{version:?} {size}");
            if whole.len() <= version.text_limit() {
                assert!(text == whole, "{version:?} {size}: {} bytes", text.len());
            } else {
                let (kept, notice) = text.rsplit_once('\n').unwrap();
                assert!(text.len() <= version.text_limit() && text.len() > version.text_limit() - 100);
                assert!(whole.starts_with(kept) && kept.ends_with('ä'), "{version:?} {size}: {kept}");
                assert!(notice.starts_with("[cut: ") && notice.contains(" lines; NRPE "), "{notice}");
            }
        }
    }
}

#[test]
fn packets_without_an_answer() {
    let server = Server::strict();
    let mut noise = 7_u32;
    let mut random = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8 | 8
    };
    let mut peers = vec![
        ("nothing".to_owned(), vec![]),
        ("HTTP".to_owned(), b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: probe\r\n\r\n".to_vec()),
        ("TLS".to_owned(), [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 506]].concat()),
        ("check_nrpe 4.0.0".to_owned(), include_bytes!("captures/nrpe/v4-from-4.0.0.bin").to_vec()),
        ("0xff".to_owned(), vec![0xff; 5000]),
        ("text".to_owned(), b"%s%n%s%n\r\n".repeat(500)),
    ];
    peers.extend((0..20).map(|n| (format!("noise {n}"), (0..40 << (n / 2)).map(|_| random()).collect())));
    peers.extend([0, 1, 5, 0x0400].map(|version| (format!("version {version}"), query(version, b"check"))));
    for (who, bytes) in peers {
        for end in [false, true] {
            let stream = server.send(&bytes);
            if end {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            assert_eq!(last_words(stream, &who), b"", "{who}");
            server.assert_well(&who);
        }
    }
}

#[test]
fn packets_refused_in_words() {
    let server = Server::strict();
    let mut peers = Vec::new();
    for (version, number, _) in VERSIONS {
        for kind in [0, 2, 3, 0x100] {
            peers.push((version, raw(number, kind, 5, b"check"), format!("packet type is {kind}, not 1")));
        }
        for (text, want) in [(&b"a\xc3"[..], "plain"), (b"a\r", "plain"), (b"\0check", "no command"), (b"!", "no comm")]
        {
            peers.push((version, query(number, text), want.to_owned()));
        }
        if version != Version::V4 {
            let mut bent = query(number, b"check");
            bent[18] ^= 0x80;
            peers.push((version, bent, "packet is damaged".to_owned()));
        }
        if version != Version::V2 {
            for length in [-1, -4, i32::MIN, i32::MAX, 65537] {
                for data in [&b""[..], b"check", &[b'x'; 65537]] {
                    let want = format!("buffer length {length} is not within 0 to 65536");
                    peers.push((version, raw(number, 1, length, data), want));
                }
            }
            peers.push((version, raw(number, 1, 65536, b"check"), "packet ends after".to_owned()));
        }
    }
    for (version, bytes, want) in peers {
        let answer = last_words(server.send(&bytes), &want);
        let response = decode_response(&answer).unwrap();
        let text = String::from_utf8(response.text.to_vec()).unwrap();
        assert_eq!((response.version, response.code), (version, 3), "{want}");
        assert!(text.starts_with("UNKNOWN - nodecheck: ") && text.contains(&want), "{text} is not {want}");
        assert!(!text.contains(char::is_control));
        server.assert_well(&want);
    }
}

#[test]
fn not_a_byte_back_that_was_not_sent() {
    let server = Server::strict();
    for (version, number, _) in VERSIONS {
        for size in [1, 8, 24, 40, 56, 120, 1016, 1023, 1024, 1032, 65535, 65536] {
            if version == Version::V2 && size > 1024 {
                continue;
            }
            let text = vec![b'x'; size];
            let answer = last_words(server.send(&query(number, &text)), "unterminated");
            let response = decode_response(&answer).unwrap();
            if size <= version.text_limit() {
                assert_eq!(response.text, text, "{version:?} {size}");
            } else {
                let kept = response.text.iter().take_while(|byte| **byte == b'x').count();
                assert!(kept > version.text_limit() - 100);
                assert!(response.text[kept..].starts_with(b"...\n[cut: the end of line 1; NRPE "));
            }
            server.assert_well("an unterminated buffer");
        }
    }
}

#[test]
fn every_truncation_then_the_end() {
    let server = Server::strict();
    for (version, number, _) in VERSIONS {
        let whole = query(number, b"check");
        let needed = whole.len() - if number == 3 { 3 } else { 0 };
        for end in 0..whole.len() {
            let stream = server.send(&whole[..end]);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_truncated(version, end, needed, &last_words(stream, "truncated"));
        }
        server.assert_well("truncated packets");
    }
}

#[test]
fn truncations_then_silence() {
    let server = Server::strict();
    let mut silent = Vec::new();
    for (version, number, _) in VERSIONS {
        let whole = encode_query(version, b"check");
        let needed = whole.len() - if number == 3 { 3 } else { 0 };
        for end in [0, 1, 2, 3, 4, 9, 10, 15, 16, 17, 21, 500, 1020, 1032, 1033, 1034, 1035] {
            silent.push((version, end, needed, server.send(&whole[..end])));
        }
    }
    server.assert_well("silent peers came");
    let begun = Instant::now();
    for (version, end, needed, stream) in silent {
        assert_truncated(version, end, needed, &last_words(stream, "silent"));
    }
    assert!(begun.elapsed() < SHORT * 5, "{:?}", begun.elapsed());
    server.assert_well("silent peers left");
}

fn assert_truncated(version: Version, end: usize, needed: usize, answer: &[u8]) {
    if end < 2 {
        assert_eq!(answer, b"");
        return;
    }
    let response = decode_response(answer).unwrap();
    let text = String::from_utf8_lossy(response.text);
    assert_eq!(response.version, version);
    if end < needed {
        assert!(text.starts_with(&format!("UNKNOWN - nodecheck: query refused: packet ends after {end} of")), "{text}");
    } else {
        assert_eq!((response.code, &*text), (0, "check"));
    }
}

#[test]
fn only_the_first_of_two_queries() {
    let server = Server::strict();
    for (version, ..) in VERSIONS {
        let two = [encode_query(version, b"first"), encode_query(version, b"second")].concat();
        let answer = last_words(server.send(&two), "two queries");
        assert_eq!(decode_response(&answer).unwrap().text, b"first");
        assert_eq!(answer.len(), nodecheck::parse::nrpe::encode(version, 0, b"first").len());
    }
}

#[test]
fn what_comes_after_the_answer_is_taken_in() {
    let server = Server::start(Limits::default());
    let (query, tail) = (encode_query(Version::V3, b"check"), [0; 3]);
    let mut stream = server.send(&query[..query.len() - tail.len()]);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(decode_response(&answer).unwrap().text, b"check");
    for _ in 0..2 {
        sleep(Duration::from_millis(20));
        stream.write_all(&tail).unwrap();
    }
    assert_eq!(last_words(stream, "a late tail"), b"");
}

#[test]
fn pieces_are_put_together() {
    let server = Server::start(Limits::default());
    for (version, ..) in VERSIONS {
        let mut stream = server.connect();
        stream.set_nodelay(true).unwrap();
        for byte in encode_query(version, b"check").chunks(1) {
            stream.write_all(byte).unwrap();
        }
        let answer = last_words(stream, "pieces");
        assert_eq!(decode_response(&answer).unwrap().text, b"check");
    }
}

#[test]
fn a_slow_peer_is_dropped_at_the_deadline() {
    let server = Server::strict();
    let whole = encode_query(Version::V4, b"check");
    let mut stream = server.connect();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let begun = Instant::now();
    let mut said = Vec::new();
    for byte in whole.chunks(1) {
        stream.write_all(byte).unwrap();
        match stream.read_to_end(&mut said) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
    let took = begun.elapsed();
    assert!(took >= SHORT - Duration::from_millis(50) && took < SHORT * 3, "{took:?}");
    assert!(decode_response(&said).unwrap().text.starts_with(b"UNKNOWN - nodecheck: query refused: packet ends after"));
    server.assert_well("a slow peer");
}

#[test]
fn silent_connections_are_in_nobodys_way() {
    let server = Server::start(Limits { connections: 400, request: SHORT * 3, ..Limits::default() });
    let silent: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    let begun = Instant::now();
    server.assert_well("300 silent connections");
    assert!(begun.elapsed() < SHORT, "{:?}", begun.elapsed());
    for stream in silent {
        assert_eq!(last_words(stream, "silent"), b"");
    }
    let took = begun.elapsed();
    assert!(took < SHORT * 6, "{took:?}");
}

#[test]
fn peers_that_leave_are_survived() {
    let server = Server::strict();
    for _ in 0..100 {
        // The answer that nobody reads makes this a reset.
        drop(server.send(&encode_query(Version::V3, b"long!60000")));
    }
    server.assert_well("peers that left");
}

/// What `without_file_descriptors` talks to, in a process of its own.
#[test]
#[ignore = "started by another test"]
fn starved() {
    if std::env::var_os("NODECHECK_STARVED").is_some() {
        let server = Server::start(Limits::default());
        println!("\nlistening {}", server.address);
        let _ = std::io::stdin().read(&mut [0]);
    }
}

#[test]
fn without_file_descriptors() {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "ulimit -n 32; exec \"$0\" --exact starved --ignored --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("NODECHECK_STARVED", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("listening ").map(|address| address.parse().unwrap()));
    let address: SocketAddr = address.expect("the child says where it listens");
    let clients: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
    sleep(Duration::from_millis(200));
    let before = cpu_ticks(child.id());
    sleep(Duration::from_secs(1));
    let ticks = cpu_ticks(child.id()) - before;
    assert!(ticks < 20, "accept spins: {ticks} ticks in a second");
    drop(clients);
    let mut stream = connect(address);
    stream.write_all(&encode_query(Version::V4, b"well")).unwrap();
    assert_eq!(decode_response(&last_words(stream, "afterwards")).unwrap().text, b"well");
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("cannot accept a connection: "), "{log}");
    assert!(log.matches("cannot accept").count() <= 5, "{log}");
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}
