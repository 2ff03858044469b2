//! A life in which nothing happens but that everything is looked at.

use super::{Complaints, Depth, Launch, Ledger, Roamd};

/// Starts the daemon and holds it to all that was promised; what is open is repeated. The daemon that
/// was found right still runs. Without a ledger one is opened.
pub fn look(
    launch: &Launch,
    ledger: &mut Option<Ledger>,
    depth: Depth,
) -> Result<(Roamd, std::net::SocketAddr), Complaints> {
    let (mut roamd, address) = launch.start().map_err(|text| vec![text])?;
    let ledger = match ledger {
        Some(ledger) => ledger,
        none => match Ledger::open(launch, address) {
            Ok(ledger) => none.insert(ledger),
            Err(text) => return Err(vec![roamd.obituary(&text)]),
        },
    };
    let mut complaints = ledger.check(address, depth);
    if complaints.is_empty() {
        complaints = ledger.settle(address);
    }
    if complaints.is_empty() {
        complaints = ledger.check(address, depth);
    }
    if !complaints.is_empty() {
        complaints.push(roamd.obituary("while checking"));
        return Err(complaints);
    }
    ledger.forget_requests();
    Ok((roamd, address))
}
