import CNI
import Handover
import LinuxNetwork

/// What each verb does. The decisions are the agent's; here is only what holds when it cannot be asked.
enum Plugin {
    /// - Returns: What goes to stdout; `nil` for nothing.
    static func perform(_ invocation: PluginInvocation) throws(CNIError) -> JSONValue? {
        switch invocation {
        case .about:
            about()
            return nil
        case .version(let report):
            return report.json
        case .add(let attachment):
            do throws(CNIError) { try attach(.add, attachment) } catch {
                throw error.in(attachment.configuration)
            }
            return attachment.result
        case .check(let attachment):
            do throws(CNIError) { try attach(.check, attachment) } catch {
                throw error.in(attachment.configuration)
            }
            return nil
        case .delete(let attachment):
            delete(attachment)
            return nil
        case .status(let configuration):
            do throws(CNIError) {
                try AgentClient(configuration, whenAway: .notAvailable)
                    .ask(CNIRequest(verb: .status, networkName: configuration.name))
            } catch {
                throw error.in(configuration)
            }
            return nil
        case .collectGarbage(let configuration, let valid):
            do throws(CNIError) { try collectGarbage(configuration, valid) } catch {
                throw error.in(configuration)
            }
            return nil
        }
    }

    private static func about() {
        let versions = SpecVersion.allCases.map(\.rawValue).joined(separator: ", ")
        StandardStreams.writeErrorLine("CNI plugin apus-cni: asks the Apus node agent to take a pod into the mesh")
        StandardStreams.writeErrorLine("CNI protocol versions supported: \(versions)")
    }

    // MARK: ADD and CHECK

    private static func attach(_ verb: CNIRequest.Verb, _ attachment: PluginInvocation.Attachment) throws(CNIError) {
        let isOurs =
            attachment.arguments.namesPod
            && !attachment.configuration.isExempt(namespace: attachment.arguments.podNamespace)
        let namespace: NetworkNamespace
        do throws(SystemError) { namespace = try NetworkNamespace(path: attachment.namespacePath) } catch {
            // What is not the mesh's business is not its to refuse.
            guard isOurs else { return }
            throw CNIError(
                .invalidNamespace, "CNI_NETNS is no network namespace that can be used: \(error)",
                details: "the runtime must create the namespace before ADD and keep it until DEL")
        }
        if !attachment.allowsOwnNamespace, try isOwn(namespace) {
            throw CNIError(
                .invalidNamespace, "plugin's netns and netns from CNI_NETNS should not be the same",
                details: "CNI_NETNS is \(attachment.namespacePath); CNI_NETNS_OVERRIDE=1 lets it pass")
        }
        guard isOurs else { return }
        try AgentClient(attachment.configuration, whenAway: .tryAgainLater)
            .ask(CNIRequest(verb, attachment), descriptors: [namespace.raw])
    }

    private static func isOwn(_ namespace: borrowing NetworkNamespace) throws(CNIError) -> Bool {
        do throws(SystemError) { return try NetworkNamespace.current().id == namespace.id } catch {
            throw CNIError(.invalidNamespace, "cannot tell the plugin's own network namespace: \(error)")
        }
    }

    // MARK: DEL

    /// Succeeds whatever happens: a container that cannot be deleted helps nobody, and the agent finds out about pods
    /// that are gone by itself. Exempt namespaces are not asked for: the list may have changed since the ADD.
    private static func delete(_ attachment: PluginInvocation.Attachment) {
        func note(_ text: String) { Log.line("DEL of container \(attachment.id.containerID): \(text)") }
        for warning in attachment.warnings { note("passed over: \(warning)") }
        let request = CNIRequest(.delete, attachment)
        let client = AgentClient(attachment.configuration, whenAway: .tryAgainLater)
        do throws(CNIError) {
            if let namespace = usableNamespace(attachment) {
                try client.ask(request, descriptors: [namespace.raw])
            } else {
                try client.ask(request)
            }
        } catch {
            note("done here; the agent did not confirm: \(error)")
        }
    }

    private static func usableNamespace(_ attachment: PluginInvocation.Attachment) -> NetworkNamespace? {
        if attachment.namespacePath.isEmpty { return nil }
        do throws(SystemError) {
            let namespace = try NetworkNamespace(path: attachment.namespacePath)
            if attachment.allowsOwnNamespace { return namespace }
            let own = try NetworkNamespace.current()
            if own.id != namespace.id { return namespace }
            Log.line("DEL of container \(attachment.id.containerID): CNI_NETNS is the plugin's own, not passed on")
        } catch {
            Log.line("DEL of container \(attachment.id.containerID): CNI_NETNS cannot be used: \(error)")
        }
        return nil
    }

    // MARK: GC

    private static func collectGarbage(
        _ configuration: NetworkConfiguration, _ valid: [AttachmentID]?
    ) throws(CNIError) {
        guard let valid else {
            // Taking this for "none is valid" would take the mesh away from running pods.
            Log.line("GC without cni.dev/valid-attachments: nothing to compare with, nothing removed")
            return
        }
        let attachments = valid.map {
            CNIRequest.Attachment(containerID: $0.containerID, interfaceName: $0.interfaceName)
        }
        try AgentClient(configuration, whenAway: .tryAgainLater)
            .ask(CNIRequest(verb: .gc, networkName: configuration.name, validAttachments: attachments))
    }
}

extension CNIRequest {
    fileprivate init(_ verb: Verb, _ attachment: PluginInvocation.Attachment) {
        self.init(
            verb: verb, networkName: attachment.configuration.name, containerID: attachment.id.containerID,
            interfaceName: attachment.id.interfaceName, netnsPath: attachment.namespacePath,
            podName: attachment.arguments.podName, podNamespace: attachment.arguments.podNamespace,
            podUID: attachment.arguments.podUID, addresses: attachment.addresses)
    }
}

extension CNIError {
    /// The error in the version of the configuration it is the answer to.
    fileprivate func `in`(_ configuration: NetworkConfiguration) -> CNIError {
        var error = self
        error.version = configuration.version.rawValue
        return error
    }
}
