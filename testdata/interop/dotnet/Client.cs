// Calls every operation of a BIOS.v service with what Mono's wsdl made of its WSDL (the ASP.NET web service
// client of .NET Framework), over SOAP 1.1 and over SOAP 1.2.
//
// The README one folder up tells what the environment variables mean; BIOSV_PKCS12 is the client's certificate
// and key as a PKCS #12 file. One line is printed for each operation and each fault that was as it should be, and
// the program fails at the first that was not.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Net;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;
using System.Web.Services.Protocols;
using System.Xml;
using BiosV;

/// Keeps every answer. client.exe.config hooks it into the protocol.
public sealed class Recorder : SoapExtension {
    static int answers;
    Stream wire, ours;

    public override Stream ChainStream(Stream stream) {
        wire = stream;
        return ours = new MemoryStream();
    }

    public override void ProcessMessage(SoapMessage message) {
        if (message.Stage == SoapMessageStage.AfterSerialize) {
            ours.Position = 0;
            ours.CopyTo(wire);
        } else if (message.Stage == SoapMessageStage.BeforeDeserialize) {
            wire.CopyTo(ours);
            ours.Position = 0;
            string file = Path.Combine(Client.Env("BIOSV_ANSWERS"), (++answers).ToString("d4") + ".xml");
            File.WriteAllBytes(file, ((MemoryStream)ours).ToArray());
        }
    }

    public override object GetInitializer(LogicalMethodInfo method, SoapExtensionAttribute attribute) { return null; }
    public override object GetInitializer(Type type) { return null; }
    public override void Initialize(object initializer) { }
}

public sealed class Client {
    static readonly string[] Late = { "BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain" };
    readonly HashSet<string> done = new HashSet<string>();
    readonly string version, name;
    readonly BiosService host, bios;

    Client(string version) {
        this.version = version;
        name = "interop-dotnet-" + (version == "SOAP1.1" ? "11" : "12");
        host = At(null);
        bios = At(name);
    }

    BiosService At(string domain) {
        var service = new BiosService {
            Url = Env("BIOSV_URL") + (domain == null ? "" : "/" + domain),
            SoapVersion = version == "SOAP1.1" ? SoapProtocolVersion.Soap11 : SoapProtocolVersion.Soap12,
            ConnectionGroupName = Guid.NewGuid().ToString(),
        };
        service.ClientCertificates.Add(new X509Certificate2(Env("BIOSV_PKCS12"), "interop"));
        return service;
    }

    public static string Env(string variable) {
        return Environment.GetEnvironmentVariable(variable) ?? throw new InvalidOperationException(variable + " is not set");
    }

    static void Check(bool condition, string message) {
        if (!condition) throw new InvalidOperationException(message);
    }

    void Ok(params string[] what) {
        foreach (string w in what)
            if (done.Add(w)) Console.WriteLine("ok " + w + " " + version);
    }

    /// The name and the detail of a fault: wsdl makes no types of faults, so the detail is XML.
    static XmlElement Detail(SoapException e) {
        XmlElement detail = e.Detail == null ? null : e.Detail.ChildNodes.OfType<XmlElement>().FirstOrDefault();
        if (detail == null) throw new InvalidOperationException("the fault has no detail: " + e.Message, e);
        return detail;
    }

    static string Member(XmlElement detail, string member) {
        return detail.GetElementsByTagName(member, "urn:biosv:bios:v1").OfType<XmlElement>().Select(m => m.InnerText).FirstOrDefault();
    }

    XmlElement Refused(string fault, Action call) {
        try {
            call();
        } catch (SoapException e) {
            XmlElement detail = Detail(e);
            Check(detail.LocalName == fault, fault + " was to be expected, and it was " + detail.LocalName + ": " + e.Message);
            Check(Member(detail, "Code") != null && Member(detail, "Message") != null, fault + " says too little");
            Ok(fault);
            return detail;
        }
        throw new InvalidOperationException(fault + " was to be expected, and nothing was refused");
    }

    PowerState Power(Func<PowerState, bool> wanted, out ResetType[] allowed) {
        for (int i = 0; ; i++) {
            PowerState now = bios.GetPowerState(out allowed);
            if (wanted(now)) return now;
            Check(i < 200, "the power stays " + now);
            Thread.Sleep(100);
        }
    }

    AttributeState[] Set(string attribute, string value, ApplyTime? when = null, ulong? ifVersion = null) {
        ulong v = ifVersion.GetValueOrDefault();
        bool specified = ifVersion.HasValue;
        var wanted = new[] { new AttributeValue { Name = attribute, NewValue = new[] { value } } };
        return bios.SetAttributes(wanted, when.GetValueOrDefault(), when.HasValue, ref v, ref specified, null);
    }

    AttributeState Get(string attribute) {
        AttributeState[] found;
        bios.GetAttributes(new[] { attribute }, out found);
        return found.Single(a => a.Name == attribute);
    }

    static bool Same(string[] have, params string[] want) { return (have ?? new string[0]).SequenceEqual(want); }

    static string Digest(byte[] bytes) {
        using (var sha = SHA256.Create()) return string.Concat(sha.ComputeHash(bytes).Select(b => b.ToString("x2")));
    }

    void Run() {
        ResetType[] allowed;
        ulong position, ifVersion = 0, read, size;
        bool specified = false, intact;

        Check(host.GetTrustState() != null, "GetTrustState tells nothing");
        foreach (CertificateEntry c in host.GetCertificateChain()) Check(Digest(c.Der) == c.Sha256, "the digest of " + c.Subject + " is not its DER form's");
        Ok("GetTrustState", "GetCertificateChain");

        string description = "dotnet <&> \"é\" 日本 \U0001f600";
        Domain made = host.CreateDomain(name, DomainKind.Simulated, description, 7, true, 0, false, 0, false, null, NetworkMode.None, false, null, null, null, null, false, false);
        Check(made.Name == name && made.Description == description && made.PowerState == PowerState.Off, "CreateDomain gave something else");
        Check(host.ListDomains().Single(d => d.Name == name).DomainKind == DomainKind.Simulated, "ListDomains tells another kind");
        Check(bios.GetDomain().Description == description, "GetDomain tells another description");
        Power(s => s == PowerState.Off, out allowed);
        bios.ResetSystem(ResetType.On, out read);
        Power(s => s == PowerState.On, out allowed);
        Check(allowed.Contains(ResetType.ForceOff), "On does not allow ForceOff");
        Ok("CreateDomain", "ListDomains", "GetDomain", "ResetSystem", "GetPowerState");

        AttributeDefinition[] definitions;
        AttributeDependency[] dependencies;
        AttributeState[] all;
        PendingAttribute[] pending;
        bios.GetAttributeRegistry(out definitions, out dependencies);
        AttributeDefinition later = definitions.First(d => d.ResetRequired && !d.ReadOnly && d.AttributeKind == AttributeKind.Enumeration && d.PossibleValue.Length > 1);
        string other = later.PossibleValue.Select(v => v.ValueName).First(v => !later.DefaultValue.Contains(v));
        Set("AssetTag", "rack <7> & é");
        Check(Same(Get("AssetTag").CurrentValue, "rack <7> & é"), "AssetTag is not as set");
        read = bios.GetAttributes(null, out all);
        Check(all.Length > 1, "GetAttributes without names gives one attribute or none");
        Set(later.Name, other, ApplyTime.OnReset, read);
        bios.GetPendingAttributes(out pending);
        Check(Same(pending.Single(a => a.Name == later.Name).PendingValue, other), later.Name + " is not pending");
        Check(Same(bios.DiscardPendingAttributes(new[] { later.Name }, ref ifVersion, ref specified, null), later.Name), later.Name + " was not discarded");
        specified = false;
        bios.SaveDefaultAttributes(ref ifVersion, ref specified, null);
        Set("AssetTag", "other");
        specified = false;
        bios.ResetAttributes(DefaultSet.Saved, ref ifVersion, ref specified, null);
        Check(Same(Get("AssetTag").CurrentValue, "rack <7> & é"), "AssetTag is not as saved");
        Ok("GetAttributeRegistry", "SetAttributes", "GetAttributes", "GetPendingAttributes", "DiscardPendingAttributes", "SaveDefaultAttributes", "ResetAttributes");

        XmlElement bad = Refused("InvalidAttributeFault", () => Set(later.Name, "no such value"));
        Check(Member((XmlElement)bad.GetElementsByTagName("Refusal", "urn:biosv:bios:v1")[0], "Name") == later.Name, "the refusal names another attribute");
        XmlElement stale = Refused("ConflictFault", () => Set("AssetTag", "late", null, read));
        Check(ulong.Parse(Member(stale, "CurrentVersion")) > read, "the conflict does not tell the version");
        Refused("NotFoundFault", () => At("no-such-domain").GetDomain());
        Refused("InvalidRequestFault", () => bios.GetEventLog(0, false, 0, true, out position));

        Check(bios.GetSystemInventory() != null, "there is no inventory");
        Check(bios.GetThermal() != null, "there are no readings");
        Check(bios.GetEventLog(0, false, 1000, true, out position).Any(r => r.MessageId == "BiosV.1.0.PowerChanged"), "the event log does not tell that the power changed");
        host.GetAuditLog(0, false, 1000, true, out position, out intact);
        Check(intact, "the audit log is not intact");
        string person = "Interop.dotnet", certificate;
        host.AddOperator(person, OperatorRole.Viewer, File.ReadAllText(Env("BIOSV_OPERATOR_CSR")), out certificate);
        Check(certificate.Contains("BEGIN CERTIFICATE"), "AddOperator gave no certificate");
        Check(host.ListOperators().Single(o => o.Name == person).OperatorRole == OperatorRole.Viewer, "ListOperators tells another role");
        host.RemoveOperator(ref person);
        Check(person == "Interop.dotnet", "RemoveOperator names somebody else");
        Ok("GetSystemInventory", "GetThermal", "GetEventLog", "GetAuditLog", "AddOperator", "ListOperators", "RemoveOperator");

        // Operations that this program has not heard of: without arguments.
        foreach (MethodInfo m in typeof(BiosService).GetMethods().Where(m => m.GetCustomAttribute<SoapDocumentMethodAttribute>() != null)) {
            if (done.Contains(m.Name) || Late.Contains(m.Name)) continue;
            string outcome = null;
            foreach (BiosService service in new[] { bios, host }) {
                try {
                    m.Invoke(service, m.GetParameters().Select(p => p.ParameterType.IsValueType ? Activator.CreateInstance(p.ParameterType) : null).ToArray());
                    outcome = "answered";
                } catch (TargetInvocationException e) {
                    if (!(e.InnerException is SoapException)) throw;
                    outcome = Detail((SoapException)e.InnerException).LocalName;
                    Check(outcome != "InternalFault", m.Name + ": " + e.InnerException.Message);
                }
                if (outcome != "NotFoundFault") break;
            }
            Console.WriteLine("ok " + m.Name + " " + version + " without arguments: " + outcome);
        }

        string sum;
        byte[] archive = host.BackupState(out size, out sum);
        Check(Digest(archive) == sum, "the digest of the backup is not its archive's");
        Set("AssetTag", "after the backup");
        Check(host.RestoreState(archive) >= 1, "RestoreState tells no schema version");
        Check(Same(Get("AssetTag").CurrentValue, "rack <7> & é"), "the state is not the backup's");
        if (Power(s => s != PowerState.PoweringOn && s != PowerState.PoweringOff, out allowed) != PowerState.Off) bios.ResetSystem(ResetType.ForceOff, out read);
        Power(s => s == PowerState.Off, out allowed);
        string destroyed = name;
        host.DestroyDomain(ref destroyed);
        Check(destroyed == name, "DestroyDomain names another domain");
        CertificateEntry[] installed = host.InstallCertificateChain(Sign(host.CreateCertificateRequest()));
        Check(At(null).GetCertificateChain().Last().Sha256 == installed.Last().Sha256, "a new connection does not end in the root that was installed");
        Ok("BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain");
    }

    static string Sign(string request) {
        var start = new ProcessStartInfo(Env("BIOSV_SIGN")) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true };
        using (Process p = Process.Start(start)) {
            p.StandardInput.Write(request);
            p.StandardInput.Close();
            string chain = p.StandardOutput.ReadToEnd();
            p.WaitForExit();
            Check(p.ExitCode == 0, "BIOSV_SIGN failed");
            return chain;
        }
    }

    public static int Main() {
        Console.OutputEncoding = new UTF8Encoding(false);
        foreach (string version in new[] { "SOAP1.1", "SOAP1.2" }) {
            try {
                new Client(version).Run();
            } catch (Exception e) {
                Console.WriteLine("FAILED " + version + " " + e.GetType().Name + ": " + e.Message);
                Console.Error.WriteLine(e);
                return 1;
            }
        }
        return 0;
    }
}
