import biosv.client.*;

import jakarta.activation.DataHandler;
import jakarta.xml.ws.BindingProvider;
import jakarta.xml.ws.Holder;
import jakarta.xml.ws.WebFault;
import jakarta.xml.ws.handler.Handler;
import jakarta.xml.ws.handler.MessageContext;
import jakarta.xml.ws.handler.soap.SOAPHandler;
import jakarta.xml.ws.handler.soap.SOAPMessageContext;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.math.BigInteger;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.function.Function;
import java.util.function.Predicate;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.xml.namespace.QName;

/**
 * Calls every operation of a BIOS.v service with what wsimport, or CXF's wsdl2java, made of its WSDL, over SOAP
 * 1.1 (port Bios) and over SOAP 1.2 (port Bios12).
 *
 * The README one folder up tells what the environment variables mean. One line is printed for each operation
 * and each fault that was as it should be, and the program fails at the first that was not.
 */
public final class Client {
    private static final String URL = env("BIOSV_URL");
    private static final String TOOL = env("BIOSV_TOOL");
    private static final Set<String> LATE =
            Set.of("BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain");
    private static final Set<String> done = new HashSet<>();
    private static int answers;

    private final String version;
    private final BiosService service;
    private final Bios host;
    private final Bios bios;
    private final String name;

    /** A client of the WSDL as the service serves it, on a TLS connection of its own. */
    private Client(String version) throws Exception {
        this.version = version;
        name = "interop-" + TOOL + (version.equals("SOAP1.1") ? "-11" : "-12");
        SSLContext tls = tls();
        SSLContext.setDefault(tls);
        HttpsURLConnection.setDefaultSSLSocketFactory(tls.getSocketFactory());
        service = new BiosService(URI.create(URL + "?wsdl").toURL());
        host = at("");
        bios = at("/" + name);
    }

    private Bios at(String path) {
        Bios port = version.equals("SOAP1.1") ? service.getBios() : service.getBios12();
        BindingProvider provider = (BindingProvider) port;
        provider.getRequestContext().put(BindingProvider.ENDPOINT_ADDRESS_PROPERTY, URL + path);
        // CXF would use an older client's connection, and would not read the faults of SOAP 1.2 that come with 400.
        provider.getRequestContext().put("share.httpclient.http.conduit", false);
        provider.getRequestContext().put("org.apache.cxf.transport.process_fault_on_http_400", true);
        List<Handler> chain = provider.getBinding().getHandlerChain();
        chain.add(new Recorder());
        provider.getBinding().setHandlerChain(chain);
        return port;
    }

    private void run() throws Exception {
        // Trust: whatever stands behind the channel can be read, and is what TLS showed.
        check(host.getTrustState() != null, "GetTrustState tells nothing");
        for (CertificateEntry c : host.getCertificateChain()) {
            check(digest(bytes(c.getDer())).equals(c.getSha256()), "the digest of " + c.getSubject() + " is not its DER form's");
        }
        say("GetTrustState", "GetCertificateChain");

        // A domain of our own; its description holds what XML and UTF-8 make difficult.
        String description = TOOL + " <&> \"é\" 日本 \uD83D\uDE00";
        Domain made = host.createDomain(name, DomainKind.SIMULATED, description, 7L, null, null, List.of(), null, null, null, null, null, null);
        same(List.of(made.getName(), made.getDescription(), made.getPowerState()), List.of(name, description, PowerState.OFF));
        same(named(host.listDomains(), Domain::getName, name).getDomainKind(), DomainKind.SIMULATED);
        same(bios.getDomain().getDescription(), description);
        say("CreateDomain", "ListDomains", "GetDomain");

        same(power(s -> s == PowerState.OFF), List.of(ResetType.ON, ResetType.PUSH_POWER_BUTTON));
        reset(ResetType.ON);
        check(power(s -> s == PowerState.ON).contains(ResetType.FORCE_OFF), "On does not allow ForceOff");
        say("ResetSystem", "GetPowerState");

        // Attributes: at once, pending, taken back, saved, reset.
        Holder<List<AttributeDefinition>> definitions = new Holder<>();
        bios.getAttributeRegistry(new Holder<>(), definitions, new Holder<>());
        AttributeDefinition tag = named(definitions.value, AttributeDefinition::getName, "AssetTag");
        check(tag.getAttributeKind() == AttributeKind.STRING && !tag.isReadOnly() && !tag.isResetRequired(), "AssetTag is something else");
        AttributeDefinition later = definitions.value.stream()
                .filter(d -> d.isResetRequired() && !d.isReadOnly() && d.getAttributeKind() == AttributeKind.ENUMERATION && d.getPossibleValue().size() > 1)
                .findFirst().orElseThrow();
        String other = later.getPossibleValue().stream().map(PossibleValue::getValueName)
                .filter(v -> !later.getDefaultValue().contains(v)).findFirst().orElseThrow();
        List<String> value = List.of("rack <7> & é");
        set("AssetTag", value.get(0), null, null);
        same(get("AssetTag").getCurrentValue(), value);
        Holder<BigInteger> read = new Holder<>();
        Holder<List<AttributeState>> all = new Holder<>();
        bios.getAttributes(null, read, all);
        check(all.value.size() > 1, "GetAttributes without names gives one attribute or none");
        set(later.getName(), other, ApplyTime.ON_RESET, read.value);
        same(named(pending(), PendingAttribute::getName, later.getName()).getPendingValue(), List.of(other));
        check(get(later.getName()).isPending(), later.getName() + " does not say that it is pending");
        Holder<List<String>> discarded = new Holder<>();
        bios.discardPendingAttributes(List.of(later.getName()), new Holder<>(), null, discarded);
        same(discarded.value, List.of(later.getName()));
        same(list(pending()), List.of());
        bios.saveDefaultAttributes(new Holder<>(), null);
        set("AssetTag", "other", null, null);
        same(get("AssetTag").getCurrentValue(), List.of("other"));
        bios.resetAttributes(DefaultSet.SAVED, new Holder<>(), null, new Holder<>());
        same(get("AssetTag").getCurrentValue(), value);
        say("GetAttributeRegistry", "SetAttributes", "GetAttributes", "GetPendingAttributes", "DiscardPendingAttributes",
                "SaveDefaultAttributes", "ResetAttributes");

        // Faults, as the exceptions and types that the contract names.
        InvalidAttributeDetail bad = refused(InvalidAttributeFault.class, () -> set(later.getName(), "no such value", null, null)).getFaultInfo();
        same(bad.getRefusal().size(), 1);
        same(bad.getRefusal().get(0).getName(), later.getName());
        same(bad.getRefusal().get(0).getRefusedValue(), List.of("no such value"));
        check(!bad.getRefusal().get(0).getCode().isEmpty(), "the refusal has no code");
        ConflictDetail stale = refused(ConflictFault.class, () -> set("AssetTag", "late", null, read.value)).getFaultInfo();
        check(stale.getCurrentVersion().compareTo(read.value) > 0, "the conflict does not tell the version");
        ConflictDetail wrong = refused(ConflictFault.class, () -> reset(ResetType.ON)).getFaultInfo();
        check(wrong.getAllowedValue().contains("ForceOff"), "the conflict does not tell what is allowed");
        Bios nowhere = at("/no-such-domain");
        refused(NotFoundFault.class, () -> nowhere.getDomain());
        refused(InvalidRequestFault.class, () -> records(null, 0L));

        // What can be read of a machine that is on.
        check(bios.getSystemInventory() != null, "there is no inventory");
        check(bios.getThermal() != null, "there are no readings");
        check(records(null, 1000L).stream().anyMatch(r -> r.getMessageId().equals("BiosV.1.0.PowerChanged")),
                "the event log does not tell that the power changed");
        same(records(BigInteger.ZERO, 1L).size(), 1);
        Holder<Boolean> intact = new Holder<>();
        host.getAuditLog(null, 1000L, new Holder<>(), new Holder<>(), intact);
        check(intact.value, "the audit log is not intact");
        say("GetSystemInventory", "GetThermal", "GetEventLog", "GetAuditLog");

        // Operators.
        String person = "Interop." + TOOL;
        Holder<OperatorAccount> operator = new Holder<>();
        Holder<String> certificate = new Holder<>();
        host.addOperator(person, OperatorRole.VIEWER, Files.readString(Path.of(env("BIOSV_OPERATOR_CSR"))), operator, certificate);
        same(operator.value.getOperatorRole(), OperatorRole.VIEWER);
        check(certificate.value.contains("BEGIN CERTIFICATE"), "AddOperator gave no certificate");
        same(named(host.listOperators(), OperatorAccount::getName, person).getOperatorRole(), OperatorRole.VIEWER);
        Holder<String> removed = new Holder<>(person);
        host.removeOperator(removed);
        same(removed.value, person);
        check(host.listOperators().stream().noneMatch(o -> o.getName().equals(person)), "the operator is still there");
        say("AddOperator", "ListOperators", "RemoveOperator");

        // Operations that this program has not heard of: without arguments.
        for (Method m : Bios.class.getMethods()) {
            String operation = m.getAnnotation(jakarta.jws.WebMethod.class).operationName();
            operation = operation.isEmpty() ? m.getName() : operation;
            if (!done.contains(operation + " " + version) && !LATE.contains(operation)) {
                unheard(operation, m);
            }
        }

        // The state is what it was when the backup was taken.
        Holder<DataHandler> archive = new Holder<>();
        Holder<String> sum = new Holder<>();
        host.backupState(archive, new Holder<>(), sum);
        same(digest(bytes(archive.value)), sum.value);
        set("AssetTag", "after the backup", null, null);
        check(host.restoreState(archive.value) >= 1, "RestoreState tells no schema version");
        same(get("AssetTag").getCurrentValue(), value);
        say("BackupState", "RestoreState");

        Holder<PowerState> now = new Holder<>();
        bios.getPowerState(now, new Holder<>(), new Holder<>());
        if (now.value != PowerState.OFF) {
            reset(ResetType.FORCE_OFF);
        }
        power(s -> s == PowerState.OFF);
        Holder<String> destroyed = new Holder<>(name);
        host.destroyDomain(destroyed);
        same(destroyed.value, name);
        refused(NotFoundFault.class, bios::getDomain);
        say("DestroyDomain");

        // A chain of another authority: new connections show it at once.
        String chain = sign(host.createCertificateRequest());
        List<CertificateEntry> installed = host.installCertificateChain(chain);
        List<CertificateEntry> shown = new Client(version).host.getCertificateChain();
        same(shown.get(shown.size() - 1).getSha256(), installed.get(installed.size() - 1).getSha256());
        say("CreateCertificateRequest", "InstallCertificateChain");
    }

    private Object set(String attribute, String value, ApplyTime when, BigInteger ifVersion) throws Exception {
        AttributeValue v = new AttributeValue();
        v.setName(attribute);
        v.getNewValue().add(value);
        bios.setAttributes(List.of(v), when, new Holder<>(ifVersion), null, new Holder<>());
        return null;
    }

    private AttributeState get(String attribute) throws Exception {
        Holder<List<AttributeState>> states = new Holder<>();
        bios.getAttributes(List.of(attribute), new Holder<>(), states);
        return named(states.value, AttributeState::getName, attribute);
    }

    private List<PendingAttribute> pending() throws Exception {
        Holder<List<PendingAttribute>> waiting = new Holder<>();
        bios.getPendingAttributes(new Holder<>(), waiting);
        return waiting.value;
    }

    private Object reset(ResetType how) throws Exception {
        bios.resetSystem(how, new Holder<>(), new Holder<>());
        return null;
    }

    private List<EventRecord> records(BigInteger after, Long most) throws Exception {
        Holder<List<EventRecord>> records = new Holder<>();
        bios.getEventLog(after, most, records, new Holder<>());
        return list(records.value);
    }

    /** Waits for a state of the power (a machine may take its time), and tells what may be done then. */
    private List<ResetType> power(Predicate<PowerState> wanted) throws Exception {
        Holder<PowerState> state = new Holder<>();
        for (int i = 0; i < 200; i++) {
            Holder<List<ResetType>> allowed = new Holder<>();
            bios.getPowerState(state, allowed, new Holder<>());
            if (wanted.test(state.value)) {
                return allowed.value;
            }
            Thread.sleep(100);
        }
        throw new IllegalStateException("the power stays " + state.value);
    }

    private void unheard(String operation, Method m) throws Exception {
        String outcome = "answered";
        for (Bios at : List.of(bios, host)) {
            Object[] arguments = Arrays.stream(m.getParameterTypes())
                    .map(t -> t == Holder.class ? new Holder<>() : t == boolean.class ? (Object) false : t == int.class ? (Object) 0 : t == long.class ? (Object) 0L : null)
                    .toArray();
            try {
                m.invoke(at, arguments);
                outcome = "answered";
            } catch (InvocationTargetException e) {
                WebFault fault = e.getCause().getClass().getAnnotation(WebFault.class);
                if (fault == null || fault.name().equals("InternalFault")) {
                    throw e;
                }
                outcome = fault.name();
            }
            if (!outcome.equals("NotFoundFault")) {
                break;
            }
        }
        System.out.println("ok " + operation + " " + version + " without arguments: " + outcome);
    }

    private <F extends Exception> F refused(Class<F> fault, Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (Exception e) {
            if (!fault.isInstance(e)) {
                throw e;
            }
            say(fault.getSimpleName());
            return fault.cast(e);
        }
        throw new IllegalStateException(fault.getSimpleName() + " was to be expected, and nothing was refused");
    }

    private void say(String... what) {
        for (String w : what) {
            if (done.add(w + " " + version)) {
                System.out.println("ok " + w + " " + version);
            }
        }
    }

    private static void check(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }

    private static void same(Object have, Object want) {
        check(Objects.equals(have, want), "have " + have + ", want " + want);
    }

    private static <T> List<T> list(List<T> values) {
        return values == null ? List.of() : values;
    }

    private static <T> T named(List<T> values, Function<T, String> name, String wanted) {
        return list(values).stream().filter(v -> name.apply(v).equals(wanted)).findFirst()
                .orElseThrow(() -> new IllegalStateException(wanted + " is not there"));
    }

    private static byte[] bytes(DataHandler data) throws Exception {
        try (InputStream in = data.getInputStream()) {
            return in.readAllBytes();
        }
    }

    private static String digest(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }

    private static String env(String variable) {
        return Objects.requireNonNull(System.getenv(variable), variable + " is not set");
    }

    private static String sign(String request) throws Exception {
        Process p = new ProcessBuilder("sh", "-c", env("BIOSV_SIGN")).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        try (OutputStream in = p.getOutputStream()) {
            in.write(request.getBytes("US-ASCII"));
        }
        String chain = new String(p.getInputStream().readAllBytes(), "US-ASCII");
        check(p.waitFor() == 0, "BIOSV_SIGN failed");
        return chain;
    }

    /** TLS with the client's certificate that trusts the roots given, and nothing else. */
    private static SSLContext tls() throws Exception {
        KeyStore roots = KeyStore.getInstance("PKCS12");
        roots.load(null, null);
        for (Certificate c : certificates("BIOSV_ROOTS")) {
            roots.setCertificateEntry("root" + roots.size(), c);
        }
        property("trustStore", roots);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(roots);
        KeyStore identity = KeyStore.getInstance("PKCS12");
        identity.load(null, null);
        identity.setKeyEntry("client", key(), PASSWORD, certificates("BIOSV_CERT"));
        property("keyStore", identity);
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(identity, PASSWORD);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return tls;
    }

    private static final char[] PASSWORD = "of a file that is gone with the test".toCharArray();

    /** CXF makes its calls with what the system properties name, whatever the default context is. */
    private static void property(String name, KeyStore store) throws Exception {
        Path file = Path.of(env("BIOSV_ANSWERS"), name + ".p12");
        try (OutputStream out = Files.newOutputStream(file)) {
            store.store(out, PASSWORD);
        }
        System.setProperty("javax.net.ssl." + name, file.toString());
        System.setProperty("javax.net.ssl." + name + "Password", new String(PASSWORD));
        System.setProperty("javax.net.ssl." + name + "Type", "PKCS12");
    }

    private static Certificate[] certificates(String variable) throws Exception {
        byte[] pem = Files.readAllBytes(Path.of(env(variable)));
        return CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(pem)).toArray(Certificate[]::new);
    }

    private static PrivateKey key() throws Exception {
        String pem = Files.readString(Path.of(env("BIOSV_KEY"))).replaceAll("-----[A-Z ]+-----|\\s", "");
        PKCS8EncodedKeySpec spec = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem));
        for (String algorithm : List.of("EC", "RSA", "Ed25519")) {
            try {
                return KeyFactory.getInstance(algorithm).generatePrivate(spec);
            } catch (InvalidKeySpecException e) {
                continue; // a key of another algorithm
            }
        }
        throw new IllegalStateException("BIOSV_KEY is no PKCS #8 key that Java knows");
    }

    /** Keeps every answer, faults too. */
    private static final class Recorder implements SOAPHandler<SOAPMessageContext> {
        @Override
        public boolean handleMessage(SOAPMessageContext context) {
            if (!(Boolean) context.get(MessageContext.MESSAGE_OUTBOUND_PROPERTY)) {
                try (OutputStream out = Files.newOutputStream(Path.of(env("BIOSV_ANSWERS"), String.format("%04d.xml", ++answers)))) {
                    context.getMessage().writeTo(out);
                } catch (Exception e) {
                    throw new IllegalStateException("cannot keep an answer", e);
                }
            }
            return true;
        }

        @Override
        public boolean handleFault(SOAPMessageContext context) {
            return handleMessage(context);
        }

        @Override
        public void close(MessageContext context) {}

        @Override
        public Set<QName> getHeaders() {
            return Set.of();
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String version : List.of("SOAP1.1", "SOAP1.2")) {
            try {
                new Client(version).run();
            } catch (Exception e) {
                System.out.println("FAILED " + version + " " + e);
                throw e;
            }
        }
    }
}
