"""`python -m mt5bus` is `mt5bus`."""

import signal

if __name__ == "__main__":
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # Ctrl-C while the modules are still being loaded ends the process at once, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mt5bus.cli import main

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
