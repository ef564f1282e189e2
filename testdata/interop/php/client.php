<?php
// Calls every operation of a BIOS.v service with PHP's SoapClient, over SOAP 1.1 and over SOAP 1.2.
//
// The README one folder up tells what the environment variables mean. One line is printed for each operation
// and each fault that was as it should be, and the program fails at the first that was not.

declare(strict_types=1);

const LATE = ['BackupState', 'RestoreState', 'DestroyDomain', 'CreateCertificateRequest', 'InstallCertificateChain'];

final class Refused extends Exception
{
    public function __construct(public readonly string $fault, public readonly object $detail, string $message)
    {
        parent::__construct($message);
    }
}

function check(bool $condition, string $message): void
{
    if (!$condition) {
        throw new RuntimeException($message);
    }
}

/** PHP gives one of many as itself unless it is told otherwise, and none as nothing. */
function many(mixed $value): array
{
    return $value === null ? [] : (is_array($value) ? $value : [$value]);
}

function named(mixed $values, string $name): object
{
    foreach (many($values) as $v) {
        if ($v->Name === $name) {
            return $v;
        }
    }
    throw new RuntimeException("$name is not there");
}

final class Service
{
    private static int $answers = 0;
    private SoapClient $client;

    public function __construct(private readonly string $version, ?string $domain = null)
    {
        $url = getenv('BIOSV_URL');
        $tls = stream_context_create(['ssl' => [
            'cafile' => getenv('BIOSV_ROOTS'), 'local_cert' => getenv('BIOSV_CERT'), 'local_pk' => getenv('BIOSV_KEY'),
            'verify_peer' => true, 'verify_peer_name' => true,
        ]]);
        $this->client = new SoapClient("$url?wsdl", [
            'soap_version' => $version === 'SOAP1.1' ? SOAP_1_1 : SOAP_1_2,
            'location' => $domain === null ? $url : "$url/$domain",
            'stream_context' => $tls, 'trace' => true, 'exceptions' => true, 'cache_wsdl' => WSDL_CACHE_NONE,
            'features' => SOAP_SINGLE_ELEMENT_ARRAYS,
        ]);
    }

    public function call(string $operation, array $arguments = []): object
    {
        try {
            $reply = $this->client->__soapCall($operation, [$arguments]);
            return is_object($reply) ? $reply : new stdClass();
        } catch (SoapFault $e) {
            $detail = (array) ($e->detail ?? []);
            if ($detail === []) {
                throw $e;
            }
            throw new Refused((string) array_key_first($detail), reset($detail), $e->getMessage());
        } finally {
            $answer = $this->client->__getLastResponse();
            if ($answer !== null) {
                file_put_contents(sprintf('%s/%04d.xml', getenv('BIOSV_ANSWERS'), ++self::$answers), $answer);
            }
        }
    }

    /** @return string[] */
    public function operations(): array
    {
        $names = array_map(fn (string $f) => preg_replace('/^\S+ (\w+)\(.*$/s', '$1', $f), $this->client->__getFunctions());
        return array_values(array_unique($names));
    }
}

final class Scenario
{
    private array $done = [];
    private Service $host;
    private Service $bios;
    private string $name;

    public function __construct(private readonly string $version)
    {
        $this->name = 'interop-php-' . ($version === 'SOAP1.1' ? '11' : '12');
        $this->host = new Service($version);
        $this->bios = new Service($version, $this->name);
    }

    private function ok(string ...$what): void
    {
        foreach ($what as $w) {
            if (!isset($this->done[$w])) {
                $this->done[$w] = true;
                echo "ok $w {$this->version}\n";
            }
        }
    }

    private function refused(string $fault, callable $call): object
    {
        try {
            $call();
        } catch (Refused $e) {
            check($e->fault === $fault, "$fault was to be expected, and it was {$e->fault}: {$e->getMessage()}");
            check(isset($e->detail->Code, $e->detail->Message, $e->detail->MessageId), "$fault says too little");
            $this->ok($fault);
            return $e->detail;
        }
        throw new RuntimeException("$fault was to be expected, and nothing was refused");
    }

    private function power(callable $wanted): object
    {
        for ($i = 0; $i < 200; $i++) {
            $now = $this->bios->call('GetPowerState');
            if ($wanted($now->PowerState)) {
                return $now;
            }
            usleep(100000);
        }
        throw new RuntimeException("the power stays {$now->PowerState}");
    }

    private function set(string $attribute, string $value, array $more = []): object
    {
        return $this->bios->call('SetAttributes', ['Attribute' => [['Name' => $attribute, 'NewValue' => [$value]]]] + $more);
    }

    private function get(string $attribute): object
    {
        return named($this->bios->call('GetAttributes', ['Name' => [$attribute]])->Attribute, $attribute);
    }

    public function run(): void
    {
        check(isset($this->host->call('GetTrustState')->Trust), 'GetTrustState tells nothing');
        foreach ($this->host->call('GetCertificateChain')->Certificate as $c) {
            check(hash('sha256', $c->Der) === $c->Sha256, "the digest of {$c->Subject} is not its DER form's");
        }
        $this->ok('GetTrustState', 'GetCertificateChain');

        $description = "php <&> \"é\" 日本 \u{1f600}";
        $made = $this->host->call('CreateDomain', ['Name' => $this->name, 'DomainKind' => 'Simulated', 'Description' => $description, 'SimulationSeed' => 7])->Domain;
        check([$made->Name, $made->Description, $made->PowerState] === [$this->name, $description, 'Off'], 'CreateDomain gave something else');
        check(named($this->host->call('ListDomains')->Domain, $this->name)->DomainKind === 'Simulated', 'ListDomains tells another kind');
        check($this->bios->call('GetDomain')->Domain->Description === $description, 'GetDomain tells another description');
        $this->power(fn ($s) => $s === 'Off');
        $this->bios->call('ResetSystem', ['ResetType' => 'On']);
        check(in_array('ForceOff', $this->power(fn ($s) => $s === 'On')->AllowedResetType, true), 'On does not allow ForceOff');
        $this->ok('CreateDomain', 'ListDomains', 'GetDomain', 'ResetSystem', 'GetPowerState');

        $later = $other = null;
        foreach ($this->bios->call('GetAttributeRegistry')->Definition as $d) {
            if ($later === null && $d->ResetRequired && !$d->ReadOnly && $d->AttributeKind === 'Enumeration' && count($d->PossibleValue) > 1) {
                $later = $d->Name;
                foreach ($d->PossibleValue as $v) {
                    $other = in_array($v->ValueName, many($d->DefaultValue), true) ? $other : $v->ValueName;
                }
            }
        }
        $this->set('AssetTag', 'rack <7> & é');
        check($this->get('AssetTag')->CurrentValue === ['rack <7> & é'], 'AssetTag is not as set');
        $read = $this->bios->call('GetAttributes');
        check(count($read->Attribute) > 1, 'GetAttributes without names gives one attribute or none');
        $this->set($later, $other, ['ApplyTime' => 'OnReset', 'Version' => $read->Version]);
        check(named($this->bios->call('GetPendingAttributes')->Attribute, $later)->PendingValue === [$other], "$later is not pending");
        check($this->bios->call('DiscardPendingAttributes', ['Name' => [$later]])->Discarded === [$later], "$later was not discarded");
        $this->bios->call('SaveDefaultAttributes');
        $this->set('AssetTag', 'other');
        $this->bios->call('ResetAttributes', ['DefaultSet' => 'Saved']);
        check($this->get('AssetTag')->CurrentValue === ['rack <7> & é'], 'AssetTag is not as saved');
        $this->ok('GetAttributeRegistry', 'SetAttributes', 'GetAttributes', 'GetPendingAttributes', 'DiscardPendingAttributes', 'SaveDefaultAttributes', 'ResetAttributes');

        $bad = $this->refused('InvalidAttributeFault', fn () => $this->set($later, 'no such value'));
        // A fault's detail is read without its type: what may stand often and stands once is no array.
        $refusal = is_array($bad->Refusal) ? $bad->Refusal : [$bad->Refusal];
        check(count($refusal) === 1 && $refusal[0]->Name === $later && $refusal[0]->Code !== '', 'the refusal says something else');
        $stale = $this->refused('ConflictFault', fn () => $this->set('AssetTag', 'late', ['Version' => $read->Version]));
        check($stale->CurrentVersion > $read->Version, 'the conflict does not tell the version');
        $this->refused('NotFoundFault', fn () => (new Service($this->version, 'no-such-domain'))->call('GetPowerState'));
        $this->refused('InvalidRequestFault', fn () => $this->bios->call('GetEventLog', ['MostRecords' => 0]));

        check(isset($this->bios->call('GetSystemInventory')->Inventory), 'there is no inventory');
        check(isset($this->bios->call('GetThermal')->Thermal), 'there are no readings');
        $told = array_filter($this->bios->call('GetEventLog', ['MostRecords' => 1000])->Record, fn ($r) => $r->MessageId === 'BiosV.1.0.PowerChanged');
        check($told !== [], 'the event log does not tell that the power changed');
        check($this->host->call('GetAuditLog', ['MostRecords' => 1000])->ChainIntact, 'the audit log is not intact');
        $added = $this->host->call('AddOperator', ['Name' => 'Interop.php', 'OperatorRole' => 'Viewer', 'RequestPem' => file_get_contents(getenv('BIOSV_OPERATOR_CSR'))]);
        check(str_contains($added->CertificatePem, 'BEGIN CERTIFICATE'), 'AddOperator gave no certificate');
        check(named($this->host->call('ListOperators')->Operator, 'Interop.php')->OperatorRole === 'Viewer', 'ListOperators tells another role');
        check($this->host->call('RemoveOperator', ['Name' => 'Interop.php'])->Name === 'Interop.php', 'RemoveOperator names somebody else');
        $this->ok('GetSystemInventory', 'GetThermal', 'GetEventLog', 'GetAuditLog', 'AddOperator', 'ListOperators', 'RemoveOperator');

        // Operations that this program has not heard of: without arguments. PHP refuses to leave required ones out.
        foreach (array_diff($this->host->operations(), array_keys($this->done), LATE) as $operation) {
            foreach ([$this->bios, $this->host] as $service) {
                try {
                    $service->call($operation);
                    $outcome = 'answered';
                } catch (Refused $e) {
                    $outcome = $e->fault;
                    check($outcome !== 'InternalFault', "$operation: {$e->getMessage()}");
                } catch (SoapFault $e) {
                    check(str_contains($e->getMessage(), 'Encoding: object has no'), "$operation: {$e->getMessage()}");
                    $outcome = 'not sent: ' . $e->getMessage();
                }
                if ($outcome !== 'NotFoundFault') {
                    break;
                }
            }
            echo "ok $operation {$this->version} without arguments: $outcome\n";
        }

        $backup = $this->host->call('BackupState');
        check(hash('sha256', $backup->Archive) === $backup->Sha256, "the digest of the backup is not its archive's");
        $this->set('AssetTag', 'after the backup');
        check($this->host->call('RestoreState', ['Archive' => $backup->Archive])->SchemaVersion >= 1, 'RestoreState tells no schema version');
        check($this->get('AssetTag')->CurrentValue === ['rack <7> & é'], "the state is not the backup's");
        if ($this->power(fn ($s) => !str_starts_with($s, 'Powering'))->PowerState !== 'Off') {
            $this->bios->call('ResetSystem', ['ResetType' => 'ForceOff']);
        }
        $this->power(fn ($s) => $s === 'Off');
        check($this->host->call('DestroyDomain', ['Name' => $this->name])->Name === $this->name, 'DestroyDomain names another domain');

        $request = getenv('BIOSV_ANSWERS') . '/request.pem';
        file_put_contents($request, $this->host->call('CreateCertificateRequest')->RequestPem);
        exec(getenv('BIOSV_SIGN') . ' < ' . escapeshellarg($request), $chain, $status);
        check($status === 0, 'BIOSV_SIGN failed');
        $installed = $this->host->call('InstallCertificateChain', ['ChainPem' => implode("\n", $chain) . "\n"])->Certificate;
        $shown = (new Service($this->version))->call('GetCertificateChain')->Certificate;
        check(end($shown)->Sha256 === end($installed)->Sha256, 'a new connection does not end in the root that was installed');
        $this->ok('BackupState', 'RestoreState', 'DestroyDomain', 'CreateCertificateRequest', 'InstallCertificateChain');
    }
}

foreach (['SOAP1.1', 'SOAP1.2'] as $version) {
    try {
        (new Scenario($version))->run();
    } catch (Throwable $e) {
        echo "FAILED $version ", get_class($e), ': ', $e->getMessage(), "\n";
        fwrite(STDERR, (string) $e . "\n");
        exit(1);
    }
}
