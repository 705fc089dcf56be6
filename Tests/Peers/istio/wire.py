"""What the peers in this folder say to each other, in the modules made from `protos` (scripts/peers-python)."""

import ipaddress

import certificate_pb2 as certificate
import certificate_pb2_grpc as certificate_service
import discovery_pb2 as discovery
import discovery_pb2_grpc as discovery_service
import security_pb2 as security
import workload_pb2 as workload

ADDRESS = "type.googleapis.com/istio.workload.Address"
AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"

__all__ = ["ADDRESS", "AUTHORIZATION", "certificate", "certificate_service", "discovery", "discovery_service", "packed",
           "resource", "security", "workload", "pod", "service", "policy"]


def packed(address):
    return ipaddress.ip_address(address).packed


def pod(name, address, namespace="shop", node="n1", cluster="Kubernetes", services=(), **fields):
    """A pod's workload: in the mesh unless said otherwise."""
    fields.setdefault("tunnel_protocol", workload.HBONE)
    made = workload.Workload(
        uid=f"{cluster}//Pod/{namespace}/{name}", name=name, namespace=namespace, addresses=[packed(address)],
        service_account=name, node=node, canonical_name=name, canonical_revision="latest",
        workload_type=workload.POD, workload_name=name, cluster_id=cluster, **fields)
    for hostname, ports in services:
        made.services[f"{namespace}/{hostname}"].ports.extend(
            workload.Port(service_port=port, target_port=target) for port, target in ports)
    return made


def service(name, address, ports, namespace="shop", **fields):
    return workload.Service(
        name=name, namespace=namespace, hostname=f"{name}.{namespace}.svc.cluster.local",
        addresses=[workload.NetworkAddress(address=packed(address))],
        ports=[workload.Port(service_port=port, target_port=target) for port, target in ports], canonical=True,
        **fields)


def policy(name, namespace="shop", ports=(), action=security.DENY):
    """Denies, or allows, some ports of a namespace."""
    match = security.Match(destination_ports=ports)
    return security.Authorization(
        name=name, namespace=namespace, scope=security.NAMESPACE, action=action,
        rules=[security.Rule(clauses=[security.Clause(matches=[match])])])


def resource(value, version="1"):
    """A workload, service or policy as it lies in a response, under its name."""
    if isinstance(value, security.Authorization):
        made = discovery.Resource(name=f"{value.namespace}/{value.name}", version=version)
        made.resource.type_url, made.resource.value = AUTHORIZATION, value.SerializeToString(deterministic=True)
        return made
    if isinstance(value, workload.Service):
        name, body = f"{value.namespace}/{value.hostname}", workload.Address(service=value)
    else:
        name, body = value.uid, workload.Address(workload=value)
    made = discovery.Resource(name=name, version=version)
    made.resource.type_url, made.resource.value = ADDRESS, body.SerializeToString(deterministic=True)
    return made
