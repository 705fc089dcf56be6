import DNS
import Foundation
import Handover
import LinuxNetwork
import ObjectSource

/// Whom a pod's DNS is forwarded to: what its processes see, and until there are any, what kubelet will write.
extension NodeAgent {
    /// What can be said without looking at the pod.
    func expectedResolver(of object: Pod) async -> PodResolver {
        let path = configuration.nodeResolverFile
        // A pool that has stopped is the agent's end.
        let node = try? await pool.run { Self.nodeResolver(path) }
        return expectedResolver(of: object, node ?? ResolverConfiguration())
    }

    /// The node's own. Blocks.
    static func nodeResolver(_ path: String) -> ResolverConfiguration {
        // A node without the file has no name servers.
        let data = FileManager.default.contents(atPath: path) ?? Data()
        return ResolverConfiguration(
            parsing: String(decoding: data.prefix(ResolverConfiguration.longestFile), as: UTF8.self))
    }

    func expectedResolver(of object: Pod, _ node: ResolverConfiguration) -> PodResolver {
        let policy = PodResolverPolicy(
            clusterServers: configuration.clusterDNS, clusterDomain: configuration.clusterDomain)
        return PodResolver(policy.resolver(for: object, node: node))
    }

    /// Looks for the pod's own file until it is found, more and more seldom; tells the keeper then.
    func watchForResolver(_ pod: ManagedPod) {
        guard pod.record.plan.capturesDNS, !pod.hasOwnResolver, pod.resolverWatch == nil else { return }
        let (id, generation) = (pod.record.containerID, pod.generation)
        pod.resolverWatch = Task {
            var backoff = Backoff(shortest: .milliseconds(250), longest: .seconds(30))
            while !Task.isCancelled, await !self.findResolver(id, generation) {
                // Ends early when the pod or the agent ends; the loop sees it.
                try? await Task.sleep(for: backoff.next())
            }
        }
    }

    /// - Returns: Whether there is nothing more to look for.
    private func findResolver(_ id: String, _ generation: Int) async -> Bool {
        guard let pod = pods[id], pod.generation == generation, pod.record.phase == .capturing else { return true }
        let (namespace, processes) = (pod.namespace.id, processes)
        // Whatever keeps it from being read now, it is asked for again.
        guard let found = try? await lookups.run({ try PodResolverFile.read(in: namespace, processes) }) else {
            return false
        }
        let resolver = PodResolver(found)
        guard pod.generation == generation else { return true }
        pod.hasOwnResolver = true
        pod.resolverWatch = nil
        guard pod.resolver != resolver else { return true }
        pod.resolver = resolver
        log.info(
            "a pod's name servers are known",
            metadata: ["pod": "\(pod.name)", "servers": "\(resolver.servers.joined(separator: " "))"])
        do {
            try await exclusively(id) {
                guard let pod = self.pods[id], pod.generation == generation else { return }
                try await self.tellKeeper(pod)
            }
        } catch {
            // With the next proof: the keeper is away, and everything is told again when it is back.
            log.warning(
                "the keeper was not told of a pod's name servers yet",
                metadata: ["pod": "\(pod.name)", "error": "\(error)"])
        }
        return true
    }
}
