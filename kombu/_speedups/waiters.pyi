__all__ = ()

ABI: int
