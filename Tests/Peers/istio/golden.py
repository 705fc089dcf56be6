"""Messages of discovery and of the certificate service in bytes, every field set to something that is not its default.

    python golden.py [--write]      holds istio.golden against what the field tables give, or writes it
"""

import sys
from pathlib import Path

import wire
from wire import discovery, packed, security, workload

W, S = workload, security


def gateway():
    return W.GatewayAddress(hostname=W.NamespacedHostname(namespace="edge", hostname="gw.edge.svc.cluster.local"),
                            hbone_mtls_port=15008)


def full_workload():
    made = W.Workload(
        uid="Kubernetes//Pod/shop/web-1", name="web-1", namespace="shop",
        addresses=[packed("10.0.0.1"), packed("fd00::1")], hostname="web.example", network="net1",
        tunnel_protocol=W.HBONE, trust_domain="td.example", service_account="web", node="n1", canonical_name="web",
        canonical_revision="v2", workload_type=W.CRONJOB, workload_name="web-deploy", native_tunnel=True,
        application_tunnel=W.ApplicationTunnel(protocol=W.ApplicationTunnel.PROXY, port=8443),
        authorization_policies=["istio-system/x", "shop/y"], status=W.UNHEALTHY, cluster_id="c1",
        locality=W.Locality(region="r", zone="z", subzone="s"), network_mode=W.HOST_NETWORK, waypoint=gateway(),
        network_gateway=W.GatewayAddress(
            address=W.NetworkAddress(network="net2", address=packed("192.0.2.1")), hbone_mtls_port=15009))
    made.capacity.value = 7
    made.services["shop/web.shop.svc.cluster.local"].ports.extend([
        W.Port(service_port=80, target_port=8080), W.Port(service_port=81, target_port=8081)])
    made.services["shop/all.shop.svc.cluster.local"].SetInParent()
    return made


def full_service():
    scopes = W.LoadBalancing
    return W.Service(
        name="web", namespace="shop", hostname="web.shop.svc.cluster.local",
        addresses=[W.NetworkAddress(network="net1", address=packed("10.96.0.1")),
                   W.NetworkAddress(network="net1", address=packed("10.97.0.0"), length=16)],
        ports=[W.Port(service_port=80, app_protocol=W.HTTP2),
               W.Port(service_port=443, target_port=8443, app_protocol=W.TLS)],
        subject_alt_names=["spiffe://td/ns/a/sa/b"], waypoint=gateway(),
        weighted_waypoints=[W.WeightedWaypoint(destination=gateway(), weight=3)],
        load_balancing=W.LoadBalancing(
            routing_preference=[scopes.NETWORK, scopes.REGION, scopes.ZONE, scopes.SUBZONE, scopes.NODE,
                                scopes.CLUSTER], mode=scopes.FAILOVER, health_policy=scopes.ALLOW_ALL),
        ip_families=W.DUAL, canonical=True, ingress_use_waypoint=True, visibility=W.Service.NAMESPACE)


def present():
    match = S.StringMatch()
    match.presence.SetInParent()
    return match


def full_policy():
    return S.Authorization(
        name="p", namespace="shop", scope=S.WORKLOAD_SELECTOR, action=S.DENY, dry_run=True, rules=[
            S.Rule(clauses=[S.Clause(matches=[S.Match(
                namespaces=[S.StringMatch(exact="a"), S.StringMatch(prefix="b"), S.StringMatch(suffix="c"), present()],
                not_namespaces=[S.StringMatch(exact="d")], principals=[S.StringMatch(exact="td/ns/a/sa/b")],
                not_principals=[present()],
                service_accounts=[S.ServiceAccountMatch(namespace="a", serviceAccount="b")],
                not_service_accounts=[S.ServiceAccountMatch(namespace="c", serviceAccount="d")],
                source_ips=[S.Address(address=packed("10.0.0.0"), length=8)],
                not_source_ips=[S.Address(address=packed("::1"), length=128)],
                destination_ips=[S.Address(address=packed("127.0.0.1"), length=32)],
                not_destination_ips=[S.Address(address=packed("::"))],
                destination_ports=[80, 70_000], not_destination_ports=[81])])]), S.Rule()])


def opening():
    made = discovery.DeltaDiscoveryRequest(type_url=wire.ADDRESS, initial_resource_versions={"a": "1"})
    made.node.id = "ztunnel~10.1.2.3~ztunnel-x7.istio-system~istio-system.svc.cluster.local"
    for key, value in {"NAME": "ztunnel-x7", "NAMESPACE": "istio-system", "INSTANCE_IPS": "10.1.2.3",
                       "NODE_NAME": "n1"}.items():
        made.node.metadata[key] = value
    return made


def answer(error=""):
    made = discovery.DeltaDiscoveryRequest(type_url=wire.ADDRESS, response_nonce="n")
    if error:
        made.error_detail.code = 3
        made.error_detail.message = error
    return made


def response():
    values = [wire.resource(full_workload(), "5"), wire.resource(full_service(), "6")]
    values[0].aliases.append("net1/10.0.0.9")
    return discovery.DeltaDiscoveryResponse(
        system_version_info="7", resources=values, type_url=wire.ADDRESS, nonce="n", removed_resources=["gone"])


def certificate():
    made = wire.certificate.IstioCertificateRequest(csr="PEM", validity_duration=86400)
    made.metadata["ImpersonatedIdentity"] = "spiffe://cluster.local/ns/shop/sa/web"
    return made


GOLDEN = {
    "workload": W.Address(workload=full_workload()),
    "service": W.Address(service=full_service()),
    "policy": full_policy(),
    "opening": opening(),
    "on-demand": discovery.DeltaDiscoveryRequest(
        type_url=wire.ADDRESS, resource_names_subscribe=["*", "net1/10.0.0.1"], resource_names_unsubscribe=["*"]),
    "ack": answer(),
    "nack": answer("a: wrong"),
    "response": response(),
    "policies": discovery.DeltaDiscoveryResponse(
        system_version_info="7", resources=[wire.resource(full_policy(), "8")], type_url=wire.AUTHORIZATION, nonce="m"),
    "certificate-request": certificate(),
    "certificate-response": wire.certificate.IstioCertificateResponse(cert_chain=["leaf", "issuer", "root"]),
}


def main():
    path = Path(__file__).with_name("istio.golden")
    lines = "".join(f"{name} {message.SerializeToString(deterministic=True).hex()}\n"
                    for name, message in GOLDEN.items())
    if "--write" in sys.argv:
        path.write_text(lines)
    if path.read_text() != lines:
        sys.exit(f"{path} differs from what the field tables give")


if __name__ == "__main__":
    main()
