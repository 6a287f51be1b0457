//! `serve`: looks at each check on its own, and answers NRPE and `run` until SIGTERM.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Output, daemon};
use crate::cli::{self, NftWriters};
use crate::host::machine;
use crate::node::Node;
use crate::render;
use crate::serve::ask::bind;
use crate::serve::log::{flush, say};
use crate::serve::{Answer, Ask, Limits, nrpe, sampler};
use crate::verdict::Verdict;

/// The port that IANA registered for NRPE.
const PORT: u16 = 5666;
/// check_nrpe gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(8);

/// Answers a command from the newest look.
struct Newest(Arc<Node>);

impl Ask for Newest {
    fn ask(&self, command: &str, arguments: &[&str]) -> Answer {
        // Sites name a command like the link that it stands for.
        let name = cli::check_of_link(command).unwrap_or_else(|| command.to_owned());
        let verdict = match arguments {
            [] => self.0.ask(&Arc::new(self.0.host.again()), &name, None, PATIENCE),
            _ => {
                let reason = "arguments are not allowed over NRPE; set thresholds in nodecheck.toml on the node";
                Verdict::unknown(&name, reason, machine::wall_clock())
            }
        };
        Answer { code: verdict.status.code(), text: render::plugin(&verdict, false) }
    }
}

pub(super) fn serve(node: Node, global: &cli::Global, options: &cli::Serve) -> Output {
    let addresses = match addresses(&node, options) {
        Ok(addresses) => addresses,
        Err(refused) => return refused,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Output::unknown(format!("the server can't start: {error}")),
    };
    if options.nft_writers != NftWriters::Never
        && let Err(error) = node.host.hear_nft_writers(options.nft_writers == NftWriters::Always)
    {
        say(format_args!("not listening for who changes nf_tables: {error}"));
    }
    runtime.block_on(answer(Arc::new(node.sampled(global)), &addresses, &global.socket))
}

/// Where to answer NRPE. The flag tells whether the address was asked for: then it must work.
fn addresses(node: &Node, options: &cli::Serve) -> Result<Vec<(SocketAddr, bool)>, Output> {
    let settings = &node.catalog.settings;
    if !options.nrpe.or(settings.nrpe).unwrap_or(true) {
        return Ok(Vec::new());
    }
    if let Some(fault) = &settings.nrpe_fault {
        return Err(Output::unknown(fault));
    }
    if !options.plain {
        let reason = "NRPE over TLS is not built yet: use 'serve --plain', which answers on loopback addresses only, or \
                      'serve --nrpe=off', which answers only 'nodecheck run' on this node";
        return Err(Output::unknown(reason));
    }
    let mut asked = options.listen.clone();
    if asked.is_empty() {
        asked.extend(settings.listen);
    }
    if let Some(open) = asked.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
        let reason = "without TLS and a list of who may ask, only a loopback address can be served";
        return Err(Output::unknown(format!("{open}: {reason}, for example --listen 127.0.0.1:{PORT}")));
    }
    if asked.is_empty() {
        return Ok(vec![((Ipv4Addr::LOCALHOST, PORT).into(), true), ((Ipv6Addr::LOCALHOST, PORT).into(), false)]);
    }
    Ok(asked.into_iter().map(|address| (address, true)).collect())
}

fn in_use(address: SocketAddr, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another NRPE daemon? Use another --listen, or --nrpe=off beside it",
        _ => "",
    };
    format!("can't answer NRPE on {address}: {error}{hint}")
}

async fn answer(node: Arc<Node>, addresses: &[(SocketAddr, bool)], socket: &Path) -> Output {
    for fault in &node.catalog.general {
        say(format_args!("a setting is ignored: {fault}"));
    }
    let ask: Arc<dyn Ask> = Arc::new(Newest(node.clone()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    let mut servers = tokio::task::JoinSet::new();
    for (address, needed) in addresses {
        match tokio::net::TcpListener::bind(address).await {
            Err(error) if *needed => return Output::unknown(in_use(*address, &error)),
            // A host without IPv6 is no reason not to answer.
            Err(error) => say(format_args!("not answering NRPE on {address}: {error}")),
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(*address);
                say(format_args!("answering NRPE without TLS on {address}"));
                servers.spawn(nrpe::serve(listener, ask.clone(), Limits::default(), until()));
            }
        }
    }
    let mut bound = None;
    match bind(socket) {
        Ok((listener, place)) => {
            say(format_args!("answering 'nodecheck run' on {}", socket.display()));
            bound = Some(place);
            let asked = node.clone();
            let answers = Arc::new(move |line: &str| daemon::reply(&asked, line));
            servers.spawn(crate::serve::ask::serve(listener, answers, until()));
        }
        Err(error) if servers.is_empty() => return Output::unknown(format!("{}: {error}", socket.display())),
        Err(error) => say(format_args!("not answering 'nodecheck run' on {}: {error}", socket.display())),
    }
    if let Err(error) = sampler::start(&node) {
        return Output::unknown(error);
    }
    let (told, mut ending) = tokio::sync::mpsc::channel(1);
    let waiting = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while let Some(signal) = machine::wait_for_signal() {
            match signal {
                machine::Ending::Hangup => {
                    say(format_args!("SIGHUP: settings are read at start only; restart nodecheck for new ones"))
                }
                machine::Ending::Stop(name) => {
                    let _ = told.blocking_send(name);
                    return;
                }
            }
        }
    });
    if let Err(error) = waiting {
        return Output::unknown(format!("no thread could be started: {error}"));
    }
    let signal = ending.recv().await.unwrap_or("a signal");
    say(format_args!("{signal}: ending"));
    let _ = stop.send(true);
    while servers.join_next().await.is_some() {}
    if let Some(place) = bound {
        place.unbind();
    }
    flush();
    Output::ok("")
}
