//! [`Place`]: the place of a requester in the network, from the kernel's answers to `RTM_GETROUTE`. No I/O.
//!
//! The first answer is the route that packets take. It includes what ICMP redirects changed: an IPv4 route then has the
//! flag `RTCF_REDIRECTED` (Linux, `rt_bind_exception`), an IPv6 route has another gateway (`rt6_do_redirect`). The second
//! answer is the configured route, by `RTM_F_FIB_MATCH`. Linux before 4.13 ignores that flag and repeats the first answer.

use std::net::IpAddr;

use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};

/// `RTCF_REDIRECTED` of `linux/in_route.h`, among the flags of a route.
const RTCF_REDIRECTED: u32 = 0x0004_0000;

/// The place of a requester.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An address of this host.
    Host,
    /// An address on an attached network; with the index of its link.
    Attached(u32),
    /// An address behind a router.
    Routed,
    /// An address behind a router that no configured route names.
    Redirected(Option<IpAddr>),
    /// No packet reaches the address.
    Unreachable,
}

/// The facts of a route that decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RouteFacts {
    kind: RouteType,
    link: Option<u32>,
    gateways: Vec<IpAddr>,
    /// Whether there is a gateway, of any address family.
    has_gateway: bool,
    /// The route refers to a nexthop object, and does not repeat its gateways (`nexthop_compat_mode=0`).
    has_hidden_gateways: bool,
    is_redirected: bool,
}

impl From<&RouteMessage> for RouteFacts {
    fn from(route: &RouteMessage) -> Self {
        let mut facts = Self {
            kind: route.header.kind,
            is_redirected: route.header.flags.bits() & RTCF_REDIRECTED != 0
                || route.header.protocol == RouteProtocol::IcmpRedirect,
            ..Self::default()
        };
        facts.add(&route.attributes);
        let refers = route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::NhId(_)));
        facts.has_hidden_gateways = refers && !facts.has_gateway;
        facts
    }
}

impl RouteFacts {
    fn add(&mut self, attributes: &[RouteAttribute]) {
        for attribute in attributes {
            match attribute {
                RouteAttribute::Oif(link) => self.link = Some(*link),
                RouteAttribute::Gateway(address) => {
                    self.has_gateway = true;
                    self.gateways.extend(ip_of(address));
                }
                RouteAttribute::Via(via) => {
                    self.has_gateway = true;
                    self.gateways.extend(ip_of_via(via));
                }
                RouteAttribute::MultiPath(hops) => {
                    for RouteNextHop { attributes, .. } in hops {
                        self.add(attributes);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the configured route matters for the place.
    pub(super) fn has_gateway(&self) -> bool {
        self.has_gateway
    }
}

/// The place, by the route that packets take and by the configured route. The latter matters only with a gateway.
pub(super) fn classify(taken: &RouteFacts, configured: &RouteFacts) -> Place {
    match taken.kind {
        RouteType::Local => return Place::Host,
        RouteType::Unicast => {}
        _ => return Place::Unreachable,
    }
    if taken.is_redirected {
        return Place::Redirected(taken.gateways.first().copied());
    }
    if taken.has_gateway {
        let unknown = taken.gateways.iter().find(|gateway| !configured.gateways.contains(gateway));
        return match unknown {
            Some(gateway) if !configured.has_hidden_gateways => Place::Redirected(Some(*gateway)),
            Some(_) | None => Place::Routed,
        };
    }
    taken.link.map_or(Place::Unreachable, Place::Attached)
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn ip_of_via(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(address) => Some((*address).into()),
        RouteVia::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteFlags;

    use super::*;

    const LINK: u32 = 3;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn route(kind: RouteType, gateways: &[&str]) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.kind = kind;
        let gateway = |text: &&str| RouteAttribute::Gateway(ip(text).into());
        match gateways {
            [] => {}
            [one] => route.attributes.push(gateway(one)),
            many => {
                let hop = |text| {
                    let mut hop = RouteNextHop::default();
                    hop.attributes.push(gateway(text));
                    hop
                };
                route.attributes.push(RouteAttribute::MultiPath(many.iter().map(hop).collect()));
            }
        }
        route.attributes.push(RouteAttribute::Oif(LINK));
        route
    }

    fn place(taken: &RouteMessage, configured: &RouteMessage) -> Place {
        classify(&taken.into(), &configured.into())
    }

    #[test]
    fn place_by_kind_and_gateway() {
        let unicast = |gateways: &[&str]| route(RouteType::Unicast, gateways);
        let (first, second) = ("10.99.0.9", "10.99.0.10");
        for (taken, configured, expected) in [
            (route(RouteType::Local, &[]), route(RouteType::Local, &[]), Place::Host),
            (route(RouteType::Broadcast, &[]), unicast(&[]), Place::Unreachable),
            (route(RouteType::BlackHole, &[]), unicast(&[]), Place::Unreachable),
            (unicast(&[]), unicast(&[]), Place::Attached(LINK)),
            (unicast(&[first]), unicast(&[first]), Place::Routed),
            (unicast(&[first]), unicast(&[first, second]), Place::Routed),
            (unicast(&["fe80::9"]), unicast(&["fe80::9"]), Place::Routed),
            (unicast(&[second]), unicast(&[first]), Place::Redirected(Some(ip(second)))),
            (unicast(&["fe80::8"]), unicast(&["fe80::9"]), Place::Redirected(Some(ip("fe80::8")))),
            // A redirect of a route without a gateway.
            (unicast(&[first]), unicast(&[]), Place::Redirected(Some(ip(first)))),
        ] {
            assert_eq!(place(&taken, &configured), expected, "{taken:?} {configured:?}");
        }
    }

    #[test]
    fn redirected_route_is_recognized_by_its_flag_or_its_protocol() {
        let configured = route(RouteType::Unicast, &["10.99.0.9"]);
        // A kernel without RTM_F_FIB_MATCH repeats the route that packets take.
        let mut flagged = configured.clone();
        flagged.header.flags = RouteFlags::from_bits_retain(RTCF_REDIRECTED);
        assert_eq!(place(&flagged, &flagged), Place::Redirected(Some(ip("10.99.0.9"))));
        let mut learnt = configured.clone();
        learnt.header.protocol = RouteProtocol::IcmpRedirect;
        assert_eq!(place(&learnt, &learnt), Place::Redirected(Some(ip("10.99.0.9"))));
    }

    #[test]
    fn gateway_of_another_family_and_a_nexthop_object_are_routed() {
        let mut taken = route(RouteType::Unicast, &[]);
        taken.attributes.push(RouteAttribute::Via(RouteVia::Inet6("fe80::9".parse().expect("an address"))));
        assert_eq!(place(&taken, &taken), Place::Routed);
        let mut configured = route(RouteType::Unicast, &[]);
        configured.attributes.push(RouteAttribute::NhId(1));
        assert_eq!(place(&taken, &configured), Place::Routed);
    }
}
