"""Calls every operation of a BIOS.v service with zeep, over SOAP 1.1 and over SOAP 1.2.

The README one folder up tells what the environment variables mean. One line is printed for each operation
and each fault that was as it should be, and the program fails at the first that was not.
"""

import datetime
import hashlib
import os
import subprocess
import sys
import time

import requests
import zeep
import zeep.exceptions

NAMESPACE = "{urn:biosv:bios:v1}"
VERSIONS = {"SOAP1.1": "Bios", "SOAP1.2": "Bios12"}


class Connection:
    """A TLS connection of its own, with the client that zeep makes of the WSDL it read over it."""

    answers = 0

    def __init__(self, version):
        self.url, self.version = os.environ["BIOSV_URL"], version
        self.session = requests.Session()
        self.session.trust_env = False  # REQUESTS_CA_BUNDLE would count before verify
        self.session.verify = os.environ["BIOSV_ROOTS"]
        self.session.cert = (os.environ["BIOSV_CERT"], os.environ["BIOSV_KEY"])
        self.session.hooks["response"].append(self.record)
        self.client = zeep.Client(self.url + "?wsdl", transport=zeep.transports.Transport(session=self.session))
        self.binding = NAMESPACE + VERSIONS[version]

    def record(self, response, **_):
        if response.request.method == "POST":
            Connection.answers += 1
            with open(os.path.join(os.environ["BIOSV_ANSWERS"], f"{Connection.answers:04}.xml"), "wb") as f:
                f.write(response.content)

    def at(self, domain=None):
        """The service at the address of a domain; without one at its own."""
        return self.client.create_service(self.binding, self.url + ("/" + domain if domain else ""))

    def operations(self):
        return self.client.wsdl.bindings[self.binding]._operations

    def refused(self, fault, call):
        """Makes a call that is to be refused, and gives the detail as the type that the contract names."""
        try:
            call()
        except zeep.exceptions.Fault as e:
            name = e.detail[0].tag
            check(name == NAMESPACE + fault, f"{fault} was to be expected, and it was {name}: {e.message}")
            detail = self.client.wsdl.types.deserialize(e.detail[0])
            check(detail.Code and detail.Message and detail.MessageId, f"{fault} says too little: {detail}")
            ok(fault, self.version)
            return detail
        raise AssertionError(f"{fault} was to be expected, and nothing was refused")


def check(condition, message):
    if not condition:
        raise AssertionError(message)


done = set()


def ok(what, version):
    if (what, version) not in done:
        done.add((what, version))
        print("ok", what, version, flush=True)


def until(service, state):
    """Waits for a state of the power: a machine may take its time."""
    end = time.monotonic() + 20
    while (now := service.GetPowerState()).PowerState != state:
        check(time.monotonic() < end, f"the power is {now.PowerState} and does not become {state}")
        time.sleep(0.1)
    return now


def value_of(registry_or_list, name):
    found = [a for a in registry_or_list if a.Name == name]
    check(len(found) == 1, f"{name} is there {len(found)} times")
    return found[0]


def least(xsd_type):
    """The least value of a type: what an operation is called with that this program has not heard of."""
    if hasattr(xsd_type, "elements"):
        return {
            name: ([least(e.type)] if e.accepts_multiple else least(e.type))
            for name, e in xsd_type.elements
            if not e.is_optional
        }
    by_type = {bool: False, int: 1, bytes: b"x", datetime.datetime: datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)}
    return next((by_type[t] for t in xsd_type.accepted_types if t in by_type), "x")


def scenario(version):
    con = Connection(version)
    host = con.at()
    say = lambda *operations: [ok(o, version) for o in operations]
    name = "interop-zeep-" + ("11" if version == "SOAP1.1" else "12")

    # Trust: whatever stands behind the channel can be read, and is what TLS showed.
    check(host.GetTrustState() is not None, "GetTrustState tells nothing")
    chain = host.GetCertificateChain()
    for c in chain:
        check(hashlib.sha256(c.Der).hexdigest() == c.Sha256, f"the digest of {c.Subject} is not its DER form's")
    say("GetTrustState", "GetCertificateChain")

    # A domain of our own; its description holds what XML and UTF-8 make difficult.
    description = "zeep <&> \"é\" 日本 \U0001f600"
    made = host.CreateDomain(Name=name, DomainKind="Simulated", Description=description, SimulationSeed=7)
    check((made.Name, made.Description, made.PowerState) == (name, description, "Off"), f"CreateDomain gave {made}")
    check(value_of(host.ListDomains(), name).DomainKind == "Simulated", "ListDomains tells another kind")
    bios = con.at(name)
    check(bios.GetDomain().Description == description, "GetDomain tells another description")
    say("CreateDomain", "ListDomains", "GetDomain")

    check(until(bios, "Off").AllowedResetType == ["On", "PushPowerButton"], "Off allows something else than On and PushPowerButton")
    bios.ResetSystem(ResetType="On")
    check("ForceOff" in until(bios, "On").AllowedResetType, "On does not allow ForceOff")
    say("ResetSystem", "GetPowerState")

    # Attributes: at once, pending, taken back, saved, reset.
    registry = bios.GetAttributeRegistry()
    tag = value_of(registry.Definition, "AssetTag")
    check(tag.AttributeKind == "String" and not tag.ReadOnly and not tag.ResetRequired, f"AssetTag is {tag}")
    later = next(d for d in registry.Definition if d.ResetRequired and not d.ReadOnly and d.AttributeKind == "Enumeration" and len(d.PossibleValue) > 1)
    other = next(v.ValueName for v in later.PossibleValue if v.ValueName not in later.DefaultValue)
    first = bios.SetAttributes(Attribute=[{"Name": "AssetTag", "NewValue": ["rack <7> & é"]}])
    check(value_of(first.AttributeState, "AssetTag").CurrentValue == ["rack <7> & é"], f"SetAttributes gave {first}")
    read = bios.GetAttributes(Name=["AssetTag"])
    check(value_of(read.Attribute, "AssetTag").CurrentValue == ["rack <7> & é"], f"GetAttributes gave {read}")
    check(len(bios.GetAttributes().Attribute) > 1, "GetAttributes without names gives one attribute or none")
    bios.SetAttributes(Attribute=[{"Name": later.Name, "NewValue": [other]}], ApplyTime="OnReset", Version=read.Version)
    check(value_of(bios.GetPendingAttributes().Attribute, later.Name).PendingValue == [other], f"{later.Name} is not pending")
    check(value_of(bios.GetAttributes(Name=[later.Name]).Attribute, later.Name).Pending, f"{later.Name} does not say that it is pending")
    check(bios.DiscardPendingAttributes(Name=[later.Name]).Discarded == [later.Name], f"{later.Name} was not discarded")
    check(not bios.GetPendingAttributes().Attribute, "something is pending still")
    bios.SaveDefaultAttributes()
    bios.SetAttributes(Attribute=[{"Name": "AssetTag", "NewValue": [""]}])
    check(value_of(bios.GetAttributes(Name=["AssetTag"]).Attribute, "AssetTag").CurrentValue in ([""], [None]), "AssetTag is not empty")
    bios.ResetAttributes(DefaultSet="Saved")
    check(value_of(bios.GetAttributes(Name=["AssetTag"]).Attribute, "AssetTag").CurrentValue == ["rack <7> & é"], "AssetTag is not as saved")
    say("GetAttributeRegistry", "SetAttributes", "GetAttributes", "GetPendingAttributes", "DiscardPendingAttributes", "SaveDefaultAttributes", "ResetAttributes")

    # Faults, as the types that the contract names.
    detail = con.refused("InvalidAttributeFault", lambda: bios.SetAttributes(Attribute=[{"Name": later.Name, "NewValue": ["no such value"]}]))
    check([(r.Name, r.RefusedValue) for r in detail.Refusal] == [(later.Name, ["no such value"])] and detail.Refusal[0].Code, f"the refusal says {detail}")
    detail = con.refused("ConflictFault", lambda: bios.SetAttributes(Attribute=[{"Name": "AssetTag", "NewValue": ["late"]}], Version=read.Version))
    check(detail.CurrentVersion > read.Version, f"the conflict says {detail}")
    detail = con.refused("ConflictFault", lambda: bios.ResetSystem(ResetType="On"))
    check("ForceOff" in detail.AllowedValue, f"the conflict says {detail}")
    con.refused("NotFoundFault", lambda: con.at("no-such-domain").GetPowerState())
    con.refused("InvalidRequestFault", lambda: bios.ResetSystem(ResetType="NoSuchReset"))

    # What can be read of a machine that is on.
    check(bios.GetSystemInventory() is not None, "there is no inventory")
    check(bios.GetThermal() is not None, "there are no readings")
    log = bios.GetEventLog(MostRecords=1000)
    check(any(r.MessageId == "BiosV.1.0.PowerChanged" for r in log.Record), "the event log does not tell that the power changed")
    check(len(bios.GetEventLog(After=0, MostRecords=1).Record) == 1, "MostRecords=1 does not give one record")
    audit = host.GetAuditLog(MostRecords=1000)
    check(audit.ChainIntact and audit.LastPosition > 0, "the audit log is not intact")
    say("GetSystemInventory", "GetThermal", "GetEventLog", "GetAuditLog")

    # Operators.
    person = "Interop.zeep"
    with open(os.environ["BIOSV_OPERATOR_CSR"], encoding="ascii") as f:
        added = host.AddOperator(Name=person, OperatorRole="Viewer", RequestPem=f.read())
    check(added.Operator.OperatorRole == "Viewer" and "BEGIN CERTIFICATE" in added.CertificatePem, f"AddOperator gave {added}")
    check(value_of(host.ListOperators(), person).OperatorRole == "Viewer", "ListOperators tells another role")
    check(host.RemoveOperator(Name=person) == person, "RemoveOperator names somebody else")
    check(all(o.Name != person for o in host.ListOperators()), "the operator is still there")
    say("AddOperator", "ListOperators", "RemoveOperator")

    # Operations that this program has not heard of: with the least arguments there are.
    for operation in sorted(set(con.operations()) - {o for o, v in done if v == version} - LATE):
        arguments = least(con.client.wsdl.types.get_element(NAMESPACE + operation).type)
        outcome = "answered"
        for service in (bios, host):
            try:
                getattr(service, operation)(**arguments)
                outcome = "answered"
                break
            except zeep.exceptions.Fault as e:
                con.client.wsdl.types.deserialize(e.detail[0])
                outcome = e.detail[0].tag.removeprefix(NAMESPACE)
                check(outcome != "InternalFault", f"{operation}: {e.message}")
                if outcome != "NotFoundFault":
                    break
        print("ok", operation, version, "with the least arguments:", outcome, flush=True)

    # The state is what it was when the backup was taken.
    backup = host.BackupState()
    check(hashlib.sha256(backup.Archive).hexdigest() == backup.Sha256, "the digest of the backup is not its archive's")
    bios.SetAttributes(Attribute=[{"Name": "AssetTag", "NewValue": ["after the backup"]}])
    check(host.RestoreState(Archive=backup.Archive) >= 1, "RestoreState tells no schema version")
    check(value_of(bios.GetAttributes(Name=["AssetTag"]).Attribute, "AssetTag").CurrentValue == ["rack <7> & é"], "the state is not the backup's")
    say("BackupState", "RestoreState")

    if until_any(bios) != "Off":
        bios.ResetSystem(ResetType="ForceOff")
    until(bios, "Off")
    check(host.DestroyDomain(Name=name) == name, "DestroyDomain names another domain")
    con.refused("NotFoundFault", bios.GetDomain)
    say("DestroyDomain")

    # A chain of another authority: new connections show it at once.
    request = host.CreateCertificateRequest()
    chain = subprocess.run(os.environ["BIOSV_SIGN"], input=request, stdout=subprocess.PIPE, check=True, text=True, shell=True).stdout
    installed = host.InstallCertificateChain(ChainPem=chain)
    again = Connection(version).at().GetCertificateChain()
    check(again[-1].Sha256 == installed[-1].Sha256, "a new connection does not end in the root that was installed")
    say("CreateCertificateRequest", "InstallCertificateChain")


def until_any(service):
    """The state of the power, once it is none that a machine passes through."""
    end = time.monotonic() + 20
    while (state := service.GetPowerState().PowerState).startswith("Powering"):
        check(time.monotonic() < end, f"the power stays {state}")
        time.sleep(0.1)
    return state


LATE = {"BackupState", "RestoreState", "DestroyDomain", "CreateCertificateRequest", "InstallCertificateChain"}

if __name__ == "__main__":
    for v in VERSIONS:
        try:
            scenario(v)
        except Exception as e:
            print("FAILED", v, f"{type(e).__name__}: {e}", flush=True)
            raise
