#Requires -Version 5.1
# Make the virtual environment, install pinned packages, run mt5bus (Windows).
#
#   powershell -NoProfile -ExecutionPolicy Bypass -File .\run.ps1              start the whole system and watch it
#   powershell -NoProfile -ExecutionPolicy Bypass -File .\run.ps1 test [ARGS]  run the tests
#   powershell -NoProfile -ExecutionPolicy Bypass -File .\run.ps1 ANYTHING     the same as: mt5bus ANYTHING
#
# MT5BUS_PYTHON=C:\path\to\python.exe chooses the Python; the default is the newest that the py launcher knows.
# Plain ASCII, because Windows PowerShell 5.1 reads a script without a mark as ANSI. No parameter block, so
# that every argument, --home too, reaches mt5bus as it was typed. Native stderr is never redirected.

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$Root = Split-Path -Parent $MyInvocation.MyCommand.Path
$Venv = Join-Path $Root '.venv'
$VenvPython = Join-Path $Venv 'Scripts\python.exe'

function Write-Step([string] $Text) {
    [Console]::Error.WriteLine("mt5bus: $Text")
}

# A native command's exit code stops nothing by itself: call, test, throw.
function Invoke-Native([string] $Program, [string[]] $Arguments) {
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) {
        throw "'$Program $Arguments' failed with exit code $LASTEXITCODE"
    }
}

# One line on stdout says what a Python is; nothing comes from a stub or an absent version.
$Probe = 'import platform, sys; print(sys.version_info[0], sys.version_info[1], int(sys.maxsize > 2**32), ' +
    'platform.machine(), sys.base_prefix, sep=chr(124))'

function Test-Python([string] $Program, [string[]] $Arguments) {
    if (-not (Get-Command $Program -CommandType Application -ErrorAction SilentlyContinue)) {
        return $false
    }
    $Lines = @()
    try {
        $Lines = @(& $Program @Arguments '-c' $Probe)
    } catch {
        return $false
    }
    if ($LASTEXITCODE -ne 0 -or $Lines.Count -ne 1) {
        return $false
    }
    $Facts = "$($Lines[0])".Split('|')
    if ($Facts.Count -ne 5 -or $Facts[0] -ne '3') {
        return $false
    }
    if ([int] $Facts[1] -lt 11 -or [int] $Facts[1] -gt 14) {
        return $false
    }
    if ($Facts[2] -ne '1') {
        Write-Step "$Program $Arguments is a 32-bit Python: passed over"
        return $false
    }
    if ($Facts[3] -eq 'ARM64') {
        Write-Step "$Program $Arguments is an ARM64 Python, for which there is no MetaTrader5: take the 64-bit (AMD64) installer"
        return $false
    }
    if ($Facts[4] -like '*\WindowsApps\*') {
        Write-Step "$Program $Arguments comes from the Microsoft Store, which hides its data: take the installer from python.org"
        return $false
    }
    return $true
}

function Find-Python {
    if ($env:MT5BUS_PYTHON) {
        if (Test-Python $env:MT5BUS_PYTHON @()) {
            return @($env:MT5BUS_PYTHON)
        }
        throw "MT5BUS_PYTHON=$env:MT5BUS_PYTHON is not a 64-bit Python 3.11 to 3.14"
    }
    foreach ($Version in '-3.13', '-3.12', '-3.11', '-3.14') {
        if (Test-Python 'py' @($Version)) {
            return @('py', $Version)
        }
    }
    if (Test-Python 'python' @()) {
        return @('python')
    }
    throw 'needs a 64-bit Python 3.11 to 3.14: install one from python.org (or: py install 3.13), then run this again'
}

function Test-Venv {
    if (-not (Test-Path -LiteralPath $VenvPython)) {
        return $false
    }
    & $VenvPython '-I' '-c' 'import pip'
    if ($LASTEXITCODE -eq 0) {
        return $true
    }
    # 100 to 109 are the launcher's own: the folder was moved, or the Python it was made with is gone.
    if ($LASTEXITCODE -ge 100 -and $LASTEXITCODE -le 109) {
        Write-Step "the virtual environment has lost its Python (exit code $LASTEXITCODE): making it again"
    }
    return $false
}

function New-Venv {
    $Base = @(Find-Python)
    $First = @()
    if ($Base.Count -gt 1) {
        $First = @($Base[1])
    }
    Write-Step "making the virtual environment .venv with $Base ..."
    if (Test-Path -LiteralPath $Venv) {
        Remove-Item -LiteralPath $Venv -Recurse -Force
    }
    Invoke-Native $Base[0] ($First + @('-m', 'venv', $Venv))
}

$Words = @($args | ForEach-Object { "$_" })
$Bootstrap = Join-Path $Root 'mt5bus\bootstrap.py'
$env:PYTHONUTF8 = '1'

try {
    if (-not (Test-Venv)) {
        New-Venv
    }
    if ($Words.Count -gt 0 -and $Words[0] -eq 'test') {
        $Rest = @($Words | Select-Object -Skip 1)
        Invoke-Native $VenvPython @('-I', $Bootstrap, '--dev')
        Set-Location -LiteralPath $Root
        & $VenvPython '-m' 'pytest' @Rest
        exit $LASTEXITCODE
    }
    Invoke-Native $VenvPython @('-I', $Bootstrap)
} catch {
    [Console]::Error.WriteLine("mt5bus: $($_.Exception.Message)")
    exit 1
}
if ($Words.Count -eq 0) {
    $Words = @('up')
}
& $VenvPython '-P' '-m' 'mt5bus' @Words
exit $LASTEXITCODE
